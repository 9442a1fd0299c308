"""What both halves of the wire agree on besides the messages themselves.

Version, limits, the name of a context, and which error travels as what. Pure values and functions;
no gRPC, no sockets.
"""

import hashlib

from cascade.codecs.tensor import pack_tensor
from cascade.errors import CascadeError
from cascade.types import ContextF16

WIRE_VERSION = 1
"""Raised whenever an older peer would misread a newer one; compared at the first call."""

ERROR_DOMAIN = "cascade.v1"
"""Domain of the ErrorInfo that every error of ours carries."""

MAX_MESSAGE_BYTES = 8 << 20
"""Largest message in either direction: a raw 1024x1024 picture (3 MiB) with room to spare."""

MAX_FRAGMENT_BYTES = 2 << 20
"""Of a message that comes in fragments; what either side holds beside the message itself."""

MAX_RESOLUTION = 8192
"""Largest picture of a stage. As raw pixels it takes 192 MiB, in flight, in the store and, joined
from fragments, at the client; decoders refuse more than 9459."""

MAX_METADATA_BYTES = 8 << 10
MAX_REQUEST_ID = 64
MAX_CONTEXT_TOKENS = 512
MAX_TOKEN_CHARACTERS = 4096
"""Of a bearer token; a JWT with many claims is shorter, and all metadata must fit their limit."""

MAX_LINGER_S = 3600.0
"""Longest time that a caller may ask to be waited for; a server's own limit is lower and only
shortens."""

PRIVATE_FOLDER = "cascade-private-"
"""How the name of a folder begins that a client made for the socket of a server of its own: that
server removes it when its client is gone without having done so."""

HANDLE_BYTES = 32


def fragments(message: bytes) -> list[bytes]:
    """A message that is larger than one may be, cut into parts of which each fits."""
    parts = range(0, len(message), MAX_FRAGMENT_BYTES)
    return [message[start : start + MAX_FRAGMENT_BYTES] for start in parts]


def max_joined_bytes(largest_picture: int) -> int:
    """Largest message that is joined from fragments.

    Args:
        largest_picture: width and height of the largest one that can be in it.
    """
    return 3 * largest_picture**2 + MAX_MESSAGE_BYTES


def context_handle(context: ContextF16) -> bytes:
    """The name of a context: sha256 over `<tokens>x<width>:float16:` and its little-endian bytes.

    Args:
        context: `[tokens, width]` float16.

    Returns:
        32 bytes.
    """
    packed = pack_tensor(context)
    head = f"{packed.shape[0]}x{packed.shape[1]}:{packed.dtype}:".encode("ascii")
    return hashlib.sha256(head + packed.data).digest()


def error_classes() -> dict[str, type[CascadeError]]:
    """Every error class by its `reason`, as ErrorInfo carries it."""
    found: dict[str, type[CascadeError]] = {}
    waiting = [CascadeError]
    while waiting:
        kind = waiting.pop()
        found[kind("").reason] = kind
        waiting.extend(kind.__subclasses__())
    return found
