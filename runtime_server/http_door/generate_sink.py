"""What the handler of `Generate` takes for the context of a call: it receives messages, joined.

So a picture that is asked for over HTTP is one call like any other. Knows the messages; not what
becomes of a picture.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from wire.fragments import Fragment
from wire.generate_events import GenerateEvent, decode_event

Take = Callable[[GenerateEvent], Awaitable[None]]
Certificate = Mapping[str, Sequence[bytes]]


class GenerateSink:
    """The context of one call."""

    def __init__(self, take: Take, certificate: Certificate, allowed_s: float | None) -> None:
        """Nothing received.

        Args:
            take: gets every event; may wait for a slow reader.
            certificate: of the connection, as gRPC tells of it; empty for none.
            allowed_s: seconds until the call must be over; None is no limit.
        """
        self._take = take
        self._certificate = certificate
        self._ends_at = None if allowed_s is None else time.monotonic() + allowed_s
        self._joining = bytearray()

    async def write(self, message: bytes) -> None:
        """Receive one message."""
        event = decode_event(message)
        if isinstance(event, Fragment):
            self._joining += event.data
            if not event.is_last:
                return
            event = decode_event(bytes(self._joining))
            self._joining.clear()
        if event is not None:
            await self._take(event)

    def time_remaining(self) -> float | None:
        """Seconds left; None is no limit."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def auth_context(self) -> Certificate:
        """What is known of the caller's certificate."""
        return self._certificate
