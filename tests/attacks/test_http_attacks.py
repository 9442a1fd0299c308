"""Attacks on the HTTP door: each ends within bounds, in a typed error; the next one is served."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from runtime_server.http_door import exchange, listener
from runtime_server.http_door.door import MAX_BODY_BYTES, MAX_EDIT_BYTES
from tests.support.http_calls import GENERATIONS, HttpAnswer, ask, words
from tests.support.serving import RunningServer, running
from tests.support.tiny_bundle import write_tiny_bundle

SHORT_S = 0.3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose HTTP door is attacked."""
    bundle: Bundle = write_tiny_bundle(tmp_path_factory.mktemp("http") / "bundle")
    with running(bundle, http="127.0.0.1:0") as running_server:
        yield running_server
        assert running_server.is_at_rest
        assert ask(running_server.http, words()).status == 200


def raw(server: RunningServer, data: bytes, *, then: bytes = b"") -> HttpAnswer:
    """What comes back on a connection for bytes that need not be HTTP."""
    host, _, port = server.http.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(data)
        if then:
            connection.sendall(then)
        received = bytearray()
        while chunk := connection.recv(1 << 16):
            received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head else 0
    return HttpAnswer(status, {}, body)


def head(length: int, *more: str) -> bytes:
    """The head of a request with a body of that length."""
    lines = [f"POST {GENERATIONS} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def nested(depth: int) -> bytes:
    """Lists in lists."""
    return b'{"steps": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"NaN",
        nested(100_000),
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"steps": NaN}',
        b'{"steps": 1e999}',
        b'{"guidance": Infinity, "prompt": "x"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a\\u0000b"}',
        b'{"prompt": ["a"]}',
        b'{"prompt": {"a": "b"}}',
        b'{"n": 1e400}',
        b'{"size": "../../etc/passwd"}',
        b'{"steps": {"../base": 1}}',
        b'{"__class__": 1}',
        b'{"output_format": "../png"}',
        b'{"model": "../../emoji-1"}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_a_body_that_is_no_request(server: RunningServer, body: bytes) -> None:
    """Whatever it is instead; nothing of it reaches a stage."""
    refused = ask(server.http, body)
    assert refused.status in (400, 404), refused.body
    assert refused.error["type"] in ("invalid_request_error", "not_found_error")
    assert len(refused.body) < 2000


@pytest.mark.parametrize("name", ["prompt", "style", "model", "user", "size", "negative_prompt"])
def test_a_text_without_end(server: RunningServer, name: str) -> None:
    """Bounded, field by field, and not quoted whole."""
    refused = ask(server.http, words(**{name: "x" * 200_000}))
    assert refused.status == 400
    assert refused.error["param"] == name
    assert len(refused.body) < 2000


def test_a_body_over_the_limit(server: RunningServer) -> None:
    """Refused by its declared length, or once so many bytes came."""
    body = json.dumps(words(user="x" * MAX_BODY_BYTES)).encode()
    declared = ask(server.http, body)
    assert (declared.status, declared.error["param"]) == (413, "body")
    chunked = raw(
        server,
        f"POST {GENERATIONS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        then=b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    )
    assert chunked.status == 413
    lying = raw(server, head(10**30, "Expect: 100-continue"))
    assert lying.status in (400, 413)


def test_a_form_over_the_limit(server: RunningServer) -> None:
    """By its declared length; not a byte of it is taken."""
    lines = (
        "POST /v1/images/edits HTTP/1.1",
        "Host: x",
        f"Content-Length: {MAX_EDIT_BYTES + 1}",
        "Content-Type: multipart/form-data; boundary=x",
    )
    assert raw(server, ("\r\n".join(lines) + "\r\n\r\n").encode()).status == 413


def test_more_connections_than_the_limit(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one beyond is closed without an answer; the others are served."""
    host, _, port = server.http.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as first:
        first.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(12) == b"HTTP/1.1 200"
        monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(server.http, path="/v1/models")
        monkeypatch.undo()
        assert ask(server.http, path="/v1/models").status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\r\n\x00\r\n\r\n",
    ],
    ids=range(9),
)
def test_bytes_that_are_no_http(server: RunningServer, data: bytes) -> None:
    """The connection ends, with an error in the API's form where one can be sent."""
    try:
        answer = raw(server, data)
    except ConnectionError:
        return
    assert answer.status in (0, 400, 404, 405, 501)
    if answer.status:
        assert answer.error["code"]


@pytest.mark.parametrize(
    ("data", "then"),
    [(b"", b""), (b"POST /v1/im", b""), (head(100), b'{"prompt"')],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_caller_that_does_not_go_on(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, data: bytes, then: bytes
) -> None:
    """Its connection ends after the patience of that part."""
    monkeypatch.setattr(listener, "HEAD_PATIENCE_S", SHORT_S)
    monkeypatch.setattr(exchange, "BODY_PATIENCE_S", SHORT_S)
    monkeypatch.setattr(exchange, "DRAIN_S", SHORT_S)
    begun = time.monotonic()
    answer = raw(server, data, then=then)
    assert time.monotonic() - begun >= SHORT_S
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/../../etc/passwd",
        "/v1/images/%2e%2e/x",
        "//",
        "/%ff",
        "/v1/models/" + "x" * 5000,
    ],
)
def test_a_path_of_elsewhere(server: RunningServer, path: str) -> None:
    """No path names a file here."""
    refused = ask(server.http, path=path)
    assert (refused.status, refused.error["code"]) == (404, "unknown_path")
    assert len(refused.body) < 2000


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer " + "x" * 5000},
        {"Idempotency-Key": "../../x"},
        {"Idempotency-Key": "x" * 65},
    ],
)
def test_a_header_that_is_wrong(server: RunningServer, headers: dict[str, Any]) -> None:
    """A token where none is asked for is not looked at; an id must be one."""
    answer = ask(server.http, words(), headers=headers)
    if "Authorization" in headers:
        assert answer.status == 200
    else:
        assert (answer.status, answer.error["param"]) == (400, "idempotency-key")
