"""Which contexts the server holds, and the uploads under way.

Each context goes up once per connection and lifetime, in the background, while the device is still
denoising. Knows contexts and handles; how bytes travel is the `put` function's business.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from cascade.types import ContextF16
from runtime_client.remote.deadline import Clock
from wire.contexts import context_handle

LIFETIME_USED = 0.9
"""Part of a context's lifetime on the server that is counted on here."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What one upload cost and for how long it holds."""

    handle: bytes
    lifetime_s: float
    bytes_up: int
    bytes_down: int


@dataclass(slots=True)
class Upload:
    """One upload, under way or done."""

    handle: bytes
    future: "Future[Uploaded]"
    begun_at: float
    billed: bool = False
    """Whether a request has already counted its bytes."""


class ContextUploads:
    """The contexts of one connection, by handle."""

    def __init__(
        self, executor: Executor, put: Callable[[ContextF16], Uploaded], clock: Clock
    ) -> None:
        """No context yet.

        Args:
            executor: runs uploads.
            put: uploads one context; may block.
            clock: when handles expire.
        """
        self._executor = executor
        self._put = put
        self._clock = clock
        self._lock = threading.Lock()
        self._uploads: dict[bytes, Upload] = {}

    def begin(self, context: ContextF16) -> None:
        """Upload a context unless the server holds it or it is on its way; returns at once."""
        handle = context_handle(context)
        with self._lock:
            self._drop_expired()
            if handle not in self._uploads:
                future = self._executor.submit(self._put, context)
                self._uploads[handle] = Upload(handle, future, self._clock())

    def find(self, context: ContextF16) -> Upload | None:
        """The upload of a context, which may still be under way; None where none was begun."""
        with self._lock:
            self._drop_expired()
            return self._uploads.get(context_handle(context))

    def bill(self, upload: Upload) -> Uploaded | None:
        """What a finished upload cost, for the first request that asks; None for the others."""
        with self._lock:
            if upload.billed or not succeeded(upload):
                return None
            upload.billed = True
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
            if now - upload.begun_at > LIFETIME_USED * upload.future.result().lifetime_s:
                del self._uploads[handle]


def succeeded(upload: Upload) -> bool:
    """Whether the upload is done and the server holds the context."""
    future = upload.future
    return future.done() and not future.cancelled() and future.exception() is None
