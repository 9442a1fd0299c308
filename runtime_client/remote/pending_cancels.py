"""Goodbyes: a server that works on for a caller who lost its connection is told when one gives up.

Kept for all requests of a connection, so that closing it takes leave of them too. Knows request ids
and how to post a message; no stream.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

PENDING_CANCEL_S = 1.0
"""Longest time that closing a client waits for its goodbyes to arrive."""


class OnItsWay(Protocol):
    """A message that was posted."""

    def wait(self, timeout_s: float) -> None:
        """Wait until it has arrived or failed, at most that long."""
        ...


class PendingCancels:
    """The requests that a server may linger for."""

    def __init__(self, post: Callable[[str], OnItsWay | None]) -> None:
        """None yet.

        Args:
            post: sends the goodbye for a request id without waiting; None when it cannot.
        """
        self._post = post
        self._lock = threading.Lock()
        self._inside: set[str] = set()
        self._posted: list[OnItsWay] = []

    def begin(self, request_id: str) -> None:
        """A request may be inside from now on."""
        with self._lock:
            self._inside.add(request_id)

    def end(self, request_id: str) -> None:
        """It is done: there is nothing to say."""
        with self._lock:
            self._inside.discard(request_id)

    def abandon(self, request_id: str) -> None:
        """Say goodbye for a request, once."""
        with self._lock:
            if request_id not in self._inside:
                return
            self._inside.remove(request_id)
        posted = self._post(request_id)
        if posted is not None:
            with self._lock:
                self._posted.append(posted)

    def close(self) -> None:
        """Say goodbye for all that are left, and wait a moment for every goodbye to arrive."""
        with self._lock:
            inside = list(self._inside)
        for request_id in inside:
            self.abandon(request_id)
        until = time.monotonic() + PENDING_CANCEL_S
        with self._lock:
            posted, self._posted = self._posted, []
        for message in posted:
            message.wait(max(0.0, until - time.monotonic()))
