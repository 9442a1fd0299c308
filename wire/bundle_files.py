"""`GetBundleManifest` and `ReadBundleFile`: a bundle's table of contents, and its files in pieces.

As they are sent and as they arrive: no name, hash or size is checked here.
"""

from dataclasses import dataclass

from protos.cascade.v1 import cascade_pb2 as pb
from wire.parsing import parse_answer, parse_request, serialise


@dataclass(frozen=True, kw_only=True, slots=True)
class OfferedManifest:
    """The answer of `GetBundleManifest`."""

    manifest: bytes
    """Of manifest.json."""
    signature: bytes = b""
    """Of manifest.sig; empty for a bundle that is not signed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFileCall:
    """One file asked for over the wire: `ReadBundleFileRequest` in the proto file."""

    bundle_id: str
    name: str
    offset: int = 0
    """Bytes that the caller has already."""


def encode_manifest_request() -> bytes:
    """The message of `GetBundleManifest`."""
    return serialise(pb.GetBundleManifestRequest())


def decode_manifest_request(data: bytes) -> None:
    """Check the empty message of `GetBundleManifest`.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    parse_request(pb.GetBundleManifestRequest, data)


def encode_manifest(offered: OfferedManifest) -> bytes:
    """The answer of `GetBundleManifest`."""
    return serialise(
        pb.GetBundleManifestResponse(manifest=offered.manifest, signature=offered.signature)
    )


def decode_manifest(data: bytes) -> OfferedManifest:
    """The answer of `GetBundleManifest`.

    Raises:
        TransportError: the bytes are not that message.
    """
    message = parse_answer(pb.GetBundleManifestResponse, data, "GetBundleManifest")
    return OfferedManifest(manifest=message.manifest, signature=message.signature)


def encode_file_call(call: BundleFileCall) -> bytes:
    """The message of `ReadBundleFile`."""
    return serialise(
        pb.ReadBundleFileRequest(bundle_id=call.bundle_id, name=call.name, offset=call.offset)
    )


def decode_file_call(data: bytes) -> BundleFileCall:
    """The message of `ReadBundleFile`.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    message = parse_request(pb.ReadBundleFileRequest, data)
    return BundleFileCall(bundle_id=message.bundle_id, name=message.name, offset=message.offset)


def encode_piece(data: bytes) -> bytes:
    """One message of the stream that answers `ReadBundleFile`."""
    return serialise(pb.ReadBundleFileResponse(data=data))


def decode_piece(data: bytes) -> bytes:
    """The bytes in one message of the stream that answers `ReadBundleFile`.

    Raises:
        TransportError: the bytes are not that message.
    """
    piece: bytes = parse_answer(pb.ReadBundleFileResponse, data, "ReadBundleFile").data
    return piece
