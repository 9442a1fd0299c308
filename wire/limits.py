"""The limits that both sides of the wire keep, in one place, so that neither refuses the other.

Those that a bundle must respect stand with the check of bundles and are named here again. Imports
no protobuf: a configuration checks itself against them.
"""

import re

from cascade.bundle.wire_limits import MAX_CONTEXT_TOKENS, MAX_MESSAGE_BYTES, MAX_RESOLUTION

__all__ = ["MAX_CONTEXT_TOKENS", "MAX_MESSAGE_BYTES", "MAX_RESOLUTION"]

MAX_FRAGMENT_BYTES = 2 << 20
"""Of a message that comes in fragments; what either side holds beside the message itself."""

# gRPC's own default for what a receiver takes; a peer of another language has it too.
MAX_METADATA_BYTES = 8 << 10
# Longer than a UUID or a hash in hex; ids stand in every log line and in memory for their lifetime.
MAX_REQUEST_ID = 64
REQUEST_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_REQUEST_ID}}}")
"""Ids that are safe to write anywhere: in a log, a path, a header."""
MAX_TOKEN_CHARACTERS = 4096
"""Of a bearer token; a JWT with many claims is shorter, and all metadata must fit their limit."""

MAX_LINGER_S = 3600.0
"""Longest time that a caller may ask the server to work on without a listener; a server's own limit
is lower and only shortens."""

MAX_PADDING_BYTES = 64 << 10
"""Of `GetServerInfo`, each way: what a rate is measured with. Less than a picture, so a caller who
asks for it over and over gains nothing."""

PRIVATE_FOLDER = "cascade-private-"
"""Prefix of the temporary folder that a client makes for the socket of its private server. The
server removes the folder when the client has ended without doing so."""


def max_joined_bytes(largest_picture: int) -> int:
    """Largest message that is joined from fragments.

    Args:
        largest_picture: width and height in pixels of the largest picture that can be in it.
    """
    # Raw pixels are the largest form of a picture, three bytes each; one message more is for all
    # else.
    return 3 * largest_picture**2 + MAX_MESSAGE_BYTES


def max_joined_request_bytes(largest_picture: int) -> int:
    """Largest request that is joined from fragments.

    Args:
        largest_picture: width and height in pixels of the largest picture that can be in it.
    """
    # A picture to start from, one that is edited, and a bit of its mask for each pixel.
    edit = 3 * largest_picture**2 + largest_picture**2 // 8
    return max_joined_bytes(largest_picture) + edit
