"""Calls to the HTTP door over the standard library: a status, headers and JSON, or events."""

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.serving import HANG_S, PROMPT

GENERATIONS = "/v1/images/generations"


@dataclass(frozen=True)
class HttpAnswer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The error in it: `message`, `type`, `param`, `code`."""
        found = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found

    @property
    def pictures(self) -> list[bytes]:
        """The encoded pictures in it."""
        assert self.status == 200, self.body[:500]
        return [base64.b64decode(each["b64_json"]) for each in self.json["data"]]


def ask(
    address: str,
    body: Mapping[str, Any] | bytes | None = None,
    path: str = GENERATIONS,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> HttpAnswer:
    """One request on a connection of its own."""
    data = json.dumps(body).encode() if isinstance(body, Mapping) else body
    connection = http.client.HTTPConnection(address, timeout=HANG_S)
    try:
        connection.request(method or ("GET" if data is None else "POST"), path, data, headers or {})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, names, response.read())
    finally:
        connection.close()


def words(**fields: Any) -> dict[str, Any]:
    """A body with a prompt that is quick to draw."""
    return {"prompt": PROMPT, "steps": {"base": 1, "sr16": 1, "sr32": 1}, **fields}


def events_of(body: bytes) -> Iterator[tuple[str, Any]]:
    """The server-sent events of an answer: name and value."""
    for block in body.decode().split("\n\n"):
        if block:
            name, data = block.split("\n")
            yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
