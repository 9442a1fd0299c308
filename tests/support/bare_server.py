"""HTTP/2 servers that do one thing wrong: refuse streams, or fall silent after so many pings.

Frames by hand, since no server that is installed here does so on demand. RFC 9113.
"""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

PREFACE_BYTES = 24
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 3, 4, 6, 7
ACK = 1
REFUSED_STREAM = 7
CHUNK = 64 << 10


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class BareServer:
    """Listens on a port of its own."""

    def __init__(self, *, passes_on_to: str = "", refusals: int = 0, pongs: int = 0) -> None:
        """Listen.

        Args:
            passes_on_to: `host:port` of the server that takes over, on new connections, once all
                refusals are used up.
            refusals: streams that are refused; others are never answered.
            pongs: pings that are answered.
        """
        host, _, port = passes_on_to.rpartition(":")
        self._server = (host, int(port or 0))
        self._left = refusals
        self._pongs = pongs
        self.refused = 0
        """Streams so far."""
        self.pings = 0
        """Received so far."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(near)
            self._spawn(self._serve, near)

    def _spawn(self, target: object, *ends: socket.socket) -> None:
        thread = threading.Thread(target=target, args=ends, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, near: socket.socket) -> None:
        """Refuse what is to be refused; the next connection is passed on."""
        if not self._left and self._server[0]:
            far = socket.create_connection(self._server)
            self._open.append(far)
            self._spawn(self._pass_on, near, far)
            self._pass_on(far, near)
            return
        with contextlib.suppress(OSError), near.makefile("rb") as stream:
            near.sendall(frame(SETTINGS, 0, 0, b""))
            stream.read(PREFACE_BYTES)
            while len(head := stream.read(9)) == 9:
                kind, flags, number = struct.unpack(">BBI", head[3:])
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if not flags & ACK or kind == HEADERS:
                    near.sendall(self._answer(kind, number, payload))
                if self.refused and not self._left:
                    near.sendall(frame(GOAWAY, 0, 0, struct.pack(">II", number, 0)))
                    near.shutdown(socket.SHUT_RDWR)

    def _answer(self, kind: int, number: int, payload: bytes) -> bytes:
        """What a frame is answered with; nothing for most."""
        if kind == SETTINGS:
            return frame(SETTINGS, ACK, 0, b"")
        if kind == PING:
            self.pings += 1
            return frame(PING, ACK, 0, payload) if self.pings <= self._pongs else b""
        if kind == HEADERS and self._left:
            self._left -= 1
            self.refused += 1
            return frame(RST_STREAM, 0, number, struct.pack(">I", REFUSED_STREAM))
        return b""

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
