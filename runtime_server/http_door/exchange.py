"""One HTTP request and its answer: a bounded body, one response or a stream, a caller that goes.

ASGI is the only protocol here. Knows bytes, headers and times; not what is asked for.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from cascade.errors import Cancelled, DeadlineExceeded, MessageTooLarge
from runtime_server.http_door.http_errors import HttpError

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

BODY_PATIENCE_S = 10.0
"""A body that is not here whole after so long is refused."""
DRAINED_BYTES = 4 << 20
DRAIN_S = 1.0
"""So much of a refused body is read and dropped, for so long: a connection that is closed with
bytes unread loses the answer on its way."""


class HttpRefusal(Exception):
    """A fault of HTTP's own, which gRPC's calls cannot have."""

    def __init__(self, error: HttpError, headers: Sequence[Header] = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.headers = tuple(headers)


class HttpExchange:
    """One request of a connection."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Nothing read, nothing sent.

        Args:
            scope: of ASGI.
            receive: its next message.
            send: sends one.
        """
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        headers: Sequence[Header] = scope["headers"]
        self.metadata = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in headers]
        """The headers, names in lower case, as gRPC's metadata are."""
        self.certificate: Mapping[str, Sequence[bytes]] = scope.get("state", {}).get(
            "certificate", {}
        )
        self.reader_patience_s = BODY_PATIENCE_S
        self.request_id = ""
        self.events = "image_generation"
        """How the events of its stream are called."""
        self.has_begun = False
        """Whether a status was sent."""
        self._receive = receive
        self._send = send
        self._has_body = False

    def header(self, name: str) -> str:
        """The value of a header; empty where it is absent."""
        return next((value for key, value in self.metadata if key == name), "")

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Args:
            limit: in bytes.

        Raises:
            MessageTooLarge: it is larger.
            HttpRefusal: it did not come in time.
            Cancelled: the caller went.
        """
        too_large = MessageTooLarge(f"body: at most {limit} bytes are accepted", field="body")
        length = self.header("content-length")
        if length.isdigit() and int(length[:20]) > limit:
            raise too_large
        whole = bytearray()
        try:
            async with asyncio.timeout(BODY_PATIENCE_S):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise Cancelled("the caller went before its body was here")
                    whole += message.get("body", b"")
                    if len(whole) > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        self._has_body = True
                        return bytes(whole)
        except TimeoutError as exc:
            text = f"the body was not complete after {BODY_PATIENCE_S:g} s"
            refused = HttpError(status=408, message=text, code="request_timeout", param="body")
            raise HttpRefusal(refused) from exc

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine comes to, which is cancelled when the caller goes.

        Raises:
            Cancelled: the caller went.
        """
        working, gone = asyncio.ensure_future(work), asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Cancelled("the caller went")
            return working.result()
        finally:
            working.cancel()
            gone.cancel()
            # Until the work has let go of what it holds.
            await asyncio.gather(working, gone, return_exceptions=True)

    async def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """The whole answer.

        Raises:
            DeadlineExceeded: the caller takes nothing.
        """
        length = (b"content-length", b"%d" % len(body))
        await self._begin(status, [*headers, length])
        await self._written({"type": "http.response.body", "body": body})

    async def answer_json(self, value: Any) -> None:
        """A good answer."""
        body = await asyncio.to_thread(lambda: json.dumps(value).encode())
        await self.answer(HTTPStatus.OK, [(b"content-type", b"application/json")], body)

    async def refuse(self, error: HttpError, headers: Sequence[Header] = ()) -> None:
        """Answer with an error: with its status, or as the last event of a stream."""
        if self.has_begun:
            await self.end_stream(b"event: error\ndata: %s\n\n" % error.body)
            return
        more = [*headers]
        if not self._has_body:
            # Nobody will read the rest of the body.
            more.append((b"connection", b"close"))
            await self._drain()
        await self.answer(error.status, [*error.headers, *more], error.body)

    async def begin_stream(self) -> None:
        """The status of a stream of events; once."""
        if not self.has_begun:
            kind = (b"content-type", b"text/event-stream; charset=utf-8")
            await self._begin(HTTPStatus.OK, [kind])

    async def send_event(self, value: Mapping[str, Any]) -> None:
        """One server-sent event, named by its `type`; waits for a slow reader."""
        text = await asyncio.to_thread(lambda: json.dumps(value).encode())
        name = str(value["type"]).encode()
        body = b"event: %s\ndata: %s\n\n" % (name, text)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end_stream(self, last: bytes = b"") -> None:
        """The end of a stream."""
        await self._written({"type": "http.response.body", "body": last})

    async def _begin(self, status: int, headers: Sequence[Header]) -> None:
        self.has_begun = True
        named = [(b"x-request-id", self.request_id.encode())] if self.request_id else []
        more = [*headers, *named, (b"cache-control", b"no-store")]
        await self._written({"type": "http.response.start", "status": status, "headers": more})

    async def _written(self, message: Message) -> None:
        """Send a message; a caller that takes nothing is given up."""
        try:
            async with asyncio.timeout(self.reader_patience_s):
                await self._send(message)
        except TimeoutError as exc:
            raise DeadlineExceeded("the caller took nothing of its answer") from exc

    async def _gone(self) -> None:
        """Return when the caller goes."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _drain(self) -> None:
        """Read a little of a body that is refused, and drop it."""
        if self.header("expect"):
            # Its sender waits for leave to send it.
            return
        left = DRAINED_BYTES
        try:
            async with asyncio.timeout(DRAIN_S):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b"")) or 1
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return
