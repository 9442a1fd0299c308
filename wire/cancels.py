"""`Cancel`: a request ended by its id, and what is kept of it forgotten."""

from protos.cascade.v1 import cascade_pb2 as pb
from wire.parsing import parse_answer, parse_request, serialise


def encode_cancel(request_id: str) -> bytes:
    """The message of `Cancel`."""
    # No bundle id: a client that has updated its bundle must still be able to end what it began.
    return serialise(pb.CancelRequest(request_id=request_id))


def decode_cancel(data: bytes) -> str:
    """The request id in the message of `Cancel`; not checked.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    request_id: str = parse_request(pb.CancelRequest, data).request_id
    return request_id


def encode_cancelled(*, found: bool) -> bytes:
    """The answer of `Cancel`: whether there was anything to end or to forget."""
    return serialise(pb.CancelResponse(found=found))


def decode_cancelled(data: bytes) -> bool:
    """The answer of `Cancel`: whether there was anything to end or to forget.

    Raises:
        TransportError: the bytes are not that message.
    """
    found: bool = parse_answer(pb.CancelResponse, data, "Cancel").found
    return found
