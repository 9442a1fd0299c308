"""`PutContext`: text embeddings that a server keeps, and the handle that names them afterwards.

The handle is the sha256 of the content, so that both sides compute it and nobody can choose one.
"""

import hashlib
from dataclasses import dataclass

from cascade.codecs.tensor import PackedTensor, pack_tensor
from cascade.types import ContextF16
from protos.cascade.v1 import cascade_pb2 as pb
from wire.parsing import parse_answer, parse_request, serialise
from wire.payloads import read_tensor, tensor_message

# A sha256; a handle of any other length is refused before anything is looked up.
HANDLE_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class PutContextCall:
    """Embeddings to be kept: `PutContextRequest`."""

    bundle_id: str
    context: PackedTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextHandle:
    """A context that the server holds: `PutContextResponse`."""

    handle: bytes
    lifetime_s: float


def context_handle(context: ContextF16) -> bytes:
    """The name of a context: sha256 over `<tokens>x<width>:float16:` and its little-endian bytes.

    Args:
        context: `[tokens, width]` float16.

    Returns:
        32 bytes.
    """
    packed = pack_tensor(context)
    # The shape is part of what is hashed: 2x6 and 3x4 of the same bytes are other contexts.
    head = f"{packed.shape[0]}x{packed.shape[1]}:{packed.dtype}:".encode("ascii")
    return hashlib.sha256(head + packed.data).digest()


def encode_put_context(call: PutContextCall) -> bytes:
    """The message of `PutContext`."""
    return serialise(
        pb.PutContextRequest(bundle_id=call.bundle_id, context=tensor_message(call.context))
    )


def decode_put_context(data: bytes) -> PutContextCall:
    """The message of `PutContext`; nothing of it is checked.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    message = parse_request(pb.PutContextRequest, data)
    return PutContextCall(bundle_id=message.bundle_id, context=read_tensor(message.context))


def encode_stored_context(stored: ContextHandle) -> bytes:
    """The answer of `PutContext`."""
    return serialise(
        pb.PutContextResponse(handle=stored.handle, lifetime_seconds=stored.lifetime_s)
    )


def decode_stored_context(data: bytes) -> ContextHandle:
    """The answer of `PutContext`.

    Raises:
        TransportError: the bytes are not that message.
    """
    message = parse_answer(pb.PutContextResponse, data, "PutContext")
    return ContextHandle(handle=message.handle, lifetime_s=message.lifetime_seconds)
