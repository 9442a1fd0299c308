"""A server as the source of a bundle's files: `GetBundleManifest` and `ReadBundleFile`.

A stream that breaks goes on where it stopped. Knows the calls; what comes is checked elsewhere.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cascade.graph_spec import FileEntry
from runtime_client.deadline import Deadline
from runtime_client.remote.retry import RETRIED, Retrier, RetryBudget, RetryPolicy
from runtime_client.remote.transport import Transport
from wire.bundle_files import (
    BundleFileCall,
    decode_manifest,
    decode_piece,
    encode_file_call,
    encode_manifest_request,
)
from wire.service import GET_BUNDLE_MANIFEST, READ_BUNDLE_FILE


class ServerSource:
    """A bundle that a server offers."""

    def __init__(self, transport: Transport, timeout_s: float, patience_s: float) -> None:
        """Nothing asked yet.

        Args:
            transport: the way to the server; stays open.
            timeout_s: longest time for one file, and for the manifest.
            patience_s: how long a server that does not answer is asked again.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._policy = RetryPolicy(patience_s=patience_s)
        self._budget = RetryBudget()

    def manifest(self) -> tuple[bytes, bytes]:
        """See `BundleSource`.

        Raises:
            PermissionDenied: the server offers no files.
            CascadeError: it cannot be reached, or refuses the caller.
        """
        deadline = Deadline.after(self._timeout_s)
        retrier = Retrier(self._policy, self._budget, deadline)
        while True:
            with waiting(retrier):
                left_s = deadline.remaining_s()
                message = encode_manifest_request()
                reply = self._transport.unary(GET_BUNDLE_MANIFEST, message, timeout_s=left_s)
                offered = decode_manifest(reply)
                return offered.manifest, offered.signature

    def pieces(self, bundle_id: str, entry: FileEntry, offset: int) -> Iterator[bytes]:
        """See `BundleSource`.

        Raises:
            CascadeError: the server refuses, or is gone for longer than the patience.
        """
        deadline = Deadline.after(self._timeout_s)
        retrier = Retrier(self._policy, self._budget, deadline)
        while offset < entry.size_bytes:
            with waiting(retrier):
                call = BundleFileCall(bundle_id=bundle_id, name=entry.name, offset=offset)
                left_s = deadline.remaining_s()
                stream = self._transport.stream(
                    READ_BUNDLE_FILE, encode_file_call(call), timeout_s=left_s
                )
                try:
                    for message in stream:
                        piece = decode_piece(message)
                        offset += len(piece)
                        # The trouble is over: a later break has the whole patience.
                        retrier = Retrier(self._policy, self._budget, deadline)
                        yield piece
                    return
                finally:
                    stream.cancel()


@contextmanager
def waiting(retrier: Retrier) -> Iterator[None]:
    """One attempt: where trying again helps, the pause before the next one instead of an error."""
    try:
        yield
    except RETRIED as error:
        time.sleep(retrier.pause_after(error))
