"""Cancels that are still due: of requests that the server goes on with while no call streams them.

A server cannot tell a lost connection from a client that gave up, so the client sends `Cancel` when
it gives up. Kept for all requests of a connection, so that closing it cancels them too. Knows
request ids; no stream.
"""

import threading
import time

from runtime_client.remote.server_link import ServerLink
from runtime_client.remote.transport import Posted

CLOSE_PATIENCE_S = 1.0
"""Longest time that closing a client waits for its cancels to arrive."""


class PendingCancels:
    """The requests that a server may linger for."""

    def __init__(self, link: ServerLink) -> None:
        """None yet.

        Args:
            link: to the server.
        """
        self._link = link
        self._lock = threading.Lock()
        self._due: set[str] = set()
        self._posted: list[Posted] = []

    def add(self, request_id: str) -> None:
        """From now on the server may have that request."""
        with self._lock:
            self._due.add(request_id)

    def discard(self, request_id: str) -> None:
        """The request is over: there is nothing to cancel."""
        with self._lock:
            self._due.discard(request_id)

    def cancel(self, request_id: str) -> None:
        """Send the cancel of a request, if it is due; once, and without waiting."""
        with self._lock:
            if request_id not in self._due:
                return
            # Taken out under the lock, sent outside it: two threads that give up send one cancel.
            self._due.remove(request_id)
        posted = self._link.post_cancel(request_id, timeout_s=CLOSE_PATIENCE_S)
        if posted is not None:
            with self._lock:
                self._posted.append(posted)

    def close(self) -> None:
        """Send all that are due, and wait a moment for every one to arrive."""
        with self._lock:
            due = list(self._due)
        for request_id in due:
            self.cancel(request_id)
        # One patience for all of them together, not for each.
        until = time.monotonic() + CLOSE_PATIENCE_S
        with self._lock:
            posted, self._posted = self._posted, []
        for message in posted:
            message.wait(max(0.0, until - time.monotonic()))
