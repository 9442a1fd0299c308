"""A TCP proxy that does to a connection what networks do: late, slow, silent, torn, half closed.

Knows bytes and sockets; not what they mean.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Way = Literal["up", "down"]
CHUNK = 4096
LINGER_NOT = struct.pack("ii", 1, 0)
"""Closing a socket with this sends RST instead of FIN."""


@dataclass(kw_only=True, slots=True)
class Weather:
    """What is done to the bytes; may change while connections are open."""

    latency_s: float = 0.0
    """Each chunk waits so long, one way."""
    bytes_per_s: float = 0.0
    """Of each direction; 0 is no cap."""
    reset_after_bytes: int = 0
    """A connection is torn once so much came down; 0 never."""
    half_close_after_bytes: int = 0
    """The upward direction is closed once so much came down; 0 never."""
    silent: bool = False
    """Nothing passes in either direction and nothing is closed: a dead network."""


class Proxy:
    """Listens on loopback and passes on to one address."""

    def __init__(self, target: str, weather: Weather) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.weather = weather
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._spawn(self._accept)

    def _spawn(self, target: "object", *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        """Take connections until the listener is shut."""
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return
            self.connections += 1
            self._sockets += [near, far]
            self._spawn(self._pump, near, far, "up")
            self._spawn(self._pump, far, near, "down")

    def _pump(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        """One direction of one connection until it ends."""
        passed = 0
        try:
            while data := source.recv(CHUNK):
                self._delay(len(data))
                sink.sendall(data)
                passed += len(data)
                if way == "down" and self._tear(source, sink, passed):
                    return
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone: the other one is closed too.
            tear(source)
            tear(sink)

    def _delay(self, size: int) -> None:
        """Hold a chunk back as the weather says."""
        weather = self.weather
        pause = weather.latency_s + (size / weather.bytes_per_s if weather.bytes_per_s else 0.0)
        if pause:
            time.sleep(pause)
        while self.weather.silent and not self._closing.wait(0.01):
            pass

    def _tear(self, far: socket.socket, near: socket.socket, passed: int) -> bool:
        """Break the connection if its time has come."""
        weather = self.weather
        if 0 < weather.reset_after_bytes <= passed:
            tear(near)
            tear(far)
            return True
        if 0 < weather.half_close_after_bytes <= passed:
            far.shutdown(socket.SHUT_WR)
        return False

    def reset_all(self) -> None:
        """Tear every connection that is open now."""
        for one in self._sockets:
            tear(one)
        self._sockets.clear()

    def close(self) -> None:
        """End everything and wait for the threads."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()
        for thread in self._threads:
            thread.join(5)


def tear(one: socket.socket) -> None:
    """Close a socket with RST, waking whoever reads from it."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        one.shutdown(socket.SHUT_RD)
    one.close()


@contextmanager
def proxy(target: str, **weather: float) -> Iterator[Proxy]:
    """A proxy in front of an address for the length of a `with` block."""
    between = Proxy(target, Weather(**weather))  # type: ignore[arg-type]
    try:
        yield between
    finally:
        between.close()
