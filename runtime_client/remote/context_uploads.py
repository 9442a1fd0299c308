"""Which contexts the server holds, and the uploads under way.

Each context goes up once per connection and lifetime, in the background, while the device is still
denoising. Knows contexts and handles; how bytes travel, the link knows.
"""

import threading
import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Protocol

from cascade.types import ContextF16
from runtime_client.deadline import Clock
from runtime_client.remote.server_link import Uploaded
from wire.contexts import context_handle

# The clocks differ by the way of the answer; the rest of the lifetime is the margin for it.
LIFETIME_USED = 0.9
"""Part of a context's lifetime on the server that is counted on here."""


class ContextLink(Protocol):
    """What uploads need of the link to a server."""

    def put_context(self, context: ContextF16) -> Uploaded:
        """Upload one context; may block."""
        ...


@dataclass(slots=True)
class Upload:
    """One upload, under way or done."""

    handle: bytes
    future: "Future[Uploaded]"
    begun_at: float
    charged: bool = False
    """Whether a request has already counted its bytes."""


class ContextUploads:
    """The contexts of one connection, by handle."""

    def __init__(
        self, executor: Executor, link: ContextLink, clock: Clock = time.monotonic
    ) -> None:
        """No context yet.

        Args:
            executor: runs uploads.
            link: to the server.
            clock: when handles expire.
        """
        self._executor = executor
        self._link = link
        self._clock = clock
        # Guards the map and the `charged` marks; never held while bytes travel.
        self._lock = threading.Lock()
        self._uploads: dict[bytes, Upload] = {}

    def begin(self, context: ContextF16) -> None:
        """Upload a context unless the server holds it or it is on its way; returns at once."""
        handle = context_handle(context)
        with self._lock:
            self._drop_expired()
            if handle not in self._uploads:
                future = self._executor.submit(self._link.put_context, context)
                self._uploads[handle] = Upload(handle, future, self._clock())

    def find(self, context: ContextF16) -> Upload | None:
        """The upload of a context, which may still be under way; None where none was begun."""
        with self._lock:
            self._drop_expired()
            return self._uploads.get(context_handle(context))

    def charge_once(self, upload: Upload) -> Uploaded | None:
        """What a finished upload cost, for the first request that asks; None for the others."""
        with self._lock:
            if upload.charged or not succeeded(upload):
                return None
            upload.charged = True
            return upload.future.result()

    def forget(self, handle: bytes) -> None:
        """The server no longer holds that context."""
        with self._lock:
            self._uploads.pop(handle, None)

    def _drop_expired(self) -> None:
        """Forget uploads that failed or have outlived what the server promised."""
        now = self._clock()
        for handle, upload in list(self._uploads.items()):
            if not upload.future.done():
                continue
            if not succeeded(upload):
                del self._uploads[handle]
                continue
            # From the begin of the upload: the server's own count begins later, so this one is
            # never too long.
            if now - upload.begun_at > LIFETIME_USED * upload.future.result().lifetime_s:
                del self._uploads[handle]


def succeeded(upload: Upload) -> bool:
    """Whether the upload is done and the server holds the context."""
    future = upload.future
    return future.done() and not future.cancelled() and future.exception() is None
