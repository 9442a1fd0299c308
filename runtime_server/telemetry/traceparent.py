"""W3C `traceparent`: which trace a call belongs to, parsed strictly.

What is not exactly a valid header is ignored, as the standard asks: a caller's mistake must not
break or join other traces. Knows the header; neither gRPC nor OpenTelemetry.

References:
    https://www.w3.org/TR/trace-context/#traceparent-header
"""

import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"
SHAPE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
INVALID_VERSION = "ff"
SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A place in a trace: that of the caller, or of our own span."""

    trace_id: str
    """32 hexadecimal digits, not all 0."""
    span_id: str
    """16 hexadecimal digits, not all 0."""
    sampled: bool
    """Whether the caller records its side."""


CURRENT_TRACE: ContextVar[TraceParent | None] = ContextVar("current_trace", default=None)
"""Of the call that this task serves: set by the interceptor alone, read by the log's formatter.
Whoever works on for the request elsewhere is given the value."""


def parse_traceparent(value: str | bytes) -> TraceParent | None:
    """The header's value, None where it is not valid.

    Later versions may add fields after the flags; version 00 may not.
    """
    match = SHAPE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == INVALID_VERSION or (version == "00" and more is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & SAMPLED))


def find_traceparent(metadata: Sequence[tuple[str, str | bytes]]) -> TraceParent | None:
    """That of a call's metadata; None where there is none, or more than one."""
    # Two of them may be an attack or a broken proxy; either way none is to be believed.
    values = [value for key, value in metadata if key == HEADER]
    return parse_traceparent(values[0]) if len(values) == 1 else None
