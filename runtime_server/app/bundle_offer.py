"""The bundle's own files for callers that need them: a manifest, and files in pieces.

Off unless the operator switches it on; then for whoever may call at all, so many downloads at once
and each no faster than is set, so that requests keep the network. Only names of the manifest are
opened. Knows a bundle's folder and the context of a call; no engine.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_NAME,
    read_plain_file,
)
from cascade.bundle.manifest import Manifest
from cascade.bundle.transfer import file_pieces
from cascade.errors import DeadlineExceeded, InvalidRequest, PermissionDenied, ServerBusy
from cascade.graph_spec import FileEntry
from runtime_server.app.departures import cancelled_if_gone
from runtime_server.config.config import ServerConfig
from runtime_server.telemetry.logs import log_event
from wire.bundle_files import BundleFileCall, OfferedManifest, encode_piece

MEGABYTE = 1_000_000
RETRY_S = 5.0
"""When a caller that found no free download is told to come back."""
SHOWN = 64


class BundleOffer:
    """The downloads of one server; used on its event loop alone."""

    def __init__(self, config: ServerConfig) -> None:
        """Nobody downloads.

        Args:
            config: whether files are offered, and the limits.
        """
        self._config = config
        self._open = 0

    def check(self) -> None:
        """Raise `PermissionDenied` unless the operator offers the files."""
        if not self._config.offer_bundle:
            raise PermissionDenied(
                "this server does not offer the files of its bundle: start it with --offer-bundle, "
                "or copy them from another place"
            )

    async def manifest(self, folder: Path) -> OfferedManifest:
        """The manifest of the bundle in a folder, and its signature.

        Raises:
            ManifestError: a file of the two is no plain file any more.
        """

        def read() -> OfferedManifest:
            signature = folder / SIGNATURE_NAME
            return OfferedManifest(
                manifest=read_plain_file(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES),
                signature=read_plain_file(signature, MAX_SIGNATURE_BYTES)
                if signature.exists()
                else b"",
            )

        return await asyncio.to_thread(read)

    async def send(
        self, folder: Path, manifest: Manifest, call: BundleFileCall, context: Any
    ) -> int:
        """Stream a file from an offset; returns the bytes sent.

        Args:
            folder: of the bundle.
            manifest: that names the files.
            call: what is asked for.
            context: of the call.

        Raises:
            InvalidRequest: the name is not listed, or the offset is beyond the file.
            ServerBusy: as many downloads as are allowed are open.
            ManifestError: the file is not here, or not what is listed.
            DeadlineExceeded: the caller takes nothing.
        """
        entry = listed(manifest, call)
        if self._open >= self._config.max_bundle_downloads:
            raise ServerBusy(
                f"{self._open} downloads of bundle files are open, no more at once: come back",
                retry_after_s=RETRY_S,
            )
        self._open += 1
        sent = 0
        pieces = file_pieces(folder, entry, call.offset)
        begun = time.monotonic()
        try:
            while piece := await asyncio.to_thread(next, pieces, b""):
                await self._write(context, encode_piece(piece))
                sent += len(piece)
                # Slept off rather than counted: one caller's pause holds nobody else up.
                early_s = self._due_s(sent) - (time.monotonic() - begun)
                if early_s > 0:
                    await asyncio.sleep(early_s)
        finally:
            self._open -= 1
            await asyncio.to_thread(close, pieces)
            log_event("bundle_file", file=entry.name, offset=call.offset, bytes_sent=sent)
        return sent

    def _due_s(self, sent: int) -> float:
        """Seconds that so many bytes take at least."""
        rate = self._config.bundle_megabytes_per_s
        return sent / (rate * MEGABYTE) if rate else 0.0

    async def _write(self, context: Any, message: bytes) -> None:
        """Send one message; waits while the reader is slow."""
        patience_s = self._config.reader_patience_s
        try:
            async with cancelled_if_gone(), asyncio.timeout(patience_s):
                await context.write(message)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"the caller took no message for {patience_s:g} s; ask again from where it stopped"
            ) from exc


def listed(manifest: Manifest, call: BundleFileCall) -> FileEntry:
    """The file that a call names.

    Raises:
        InvalidRequest: the manifest does not list it, or the offset is beyond its end.
    """
    entry = next((entry for entry in manifest.files if entry.name == call.name), None)
    if entry is None:
        raise InvalidRequest(
            f"name: {call.name[:SHOWN]!r} is not listed in the manifest", field="name"
        )
    if call.offset > entry.size_bytes:
        raise InvalidRequest(
            f"offset: {entry.name} has {entry.size_bytes} bytes, got {call.offset}", field="offset"
        )
    return entry


def close(pieces: Iterator[bytes]) -> None:
    """Close the file behind an iterator of its pieces."""
    closing = getattr(pieces, "close", None)
    if closing is not None:
        closing()
