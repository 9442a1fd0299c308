"""Bytes to protobuf messages and back: damaged bytes become the error of the side that sent them.

A request is the caller's: `InvalidRequest`. An answer is the server's: `TransportError`. A message
is parsed here rather than inside gRPC, so that bytes which are no message get the same typed error
as any other wrong value.
"""

from typing import Any

from google.protobuf.message import DecodeError

from cascade.errors import InvalidRequest, TransportError


def parse_request(kind: Any, data: bytes) -> Any:
    """The protobuf message of type `kind` in bytes from a client.

    Raises:
        InvalidRequest: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise InvalidRequest(
            f"message: these {len(data)} bytes are not a {kind.DESCRIPTOR.name}", field="message"
        ) from exc


def parse_answer(kind: Any, data: bytes, method: str) -> Any:
    """The protobuf message of type `kind` in bytes from a server.

    Args:
        kind: the generated class.
        data: as received.
        method: that answered, for the error.

    Raises:
        TransportError: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise TransportError(
            f"the answer of {method} is malformed: is that a cascade server?"
        ) from exc


def serialise(message: Any) -> bytes:
    """A protobuf message as bytes."""
    # Not deterministic: maps may come in any order, so nothing is hashed over serialised messages.
    data: bytes = message.SerializeToString()
    return data
