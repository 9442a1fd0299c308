"""A message larger than one may be, in fragments of which each fits: `GenerateFromFragments`.

Splitting here, joining where the limit is known (`limits.max_joined_bytes`).
"""

from dataclasses import dataclass

from protos.cascade.v1 import cascade_pb2 as pb
from wire.limits import MAX_FRAGMENT_BYTES
from wire.parsing import parse_request, serialise


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of a message that is too large for one; the parts in order, joined, are the message."""

    data: bytes
    is_last: bool


def split(message: bytes) -> list[Fragment]:
    """A message in fragments of at most `MAX_FRAGMENT_BYTES`."""
    # Splitting is of bytes, not of fields: the parts mean nothing until they are joined.
    starts = range(0, len(message), MAX_FRAGMENT_BYTES)
    return [
        Fragment(message[start : start + MAX_FRAGMENT_BYTES], is_last=start == starts[-1])
        for start in starts
    ]


def fragment_message(fragment: Fragment) -> pb.Fragment:
    """A Fragment message."""
    # The end is marked, not counted beforehand: a stream that breaks off is told from one that is
    # whole.
    return pb.Fragment(data=fragment.data, last=fragment.is_last)


def read_fragment(message: pb.Fragment) -> Fragment:
    """A fragment as it came."""
    return Fragment(message.data, message.last)


def encode_fragment(fragment: Fragment) -> bytes:
    """One message of `GenerateFromFragments`."""
    return serialise(fragment_message(fragment))


def decode_fragment(data: bytes) -> Fragment:
    """One message of `GenerateFromFragments`.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    return read_fragment(parse_request(pb.Fragment, data))
