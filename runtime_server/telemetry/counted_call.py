"""One call, counted and traced from its arrival to its end, whichever door it came by.

Knows events and spans; neither gRPC nor HTTP.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime_server.telemetry.call_tracer import CallTracer
from runtime_server.telemetry.server_events import CallEnded, CallStarted, Emit
from runtime_server.telemetry.traceparent import CURRENT_TRACE, TraceParent


@dataclass(slots=True)
class CallOutcome:
    """How a call ended, by the name of its status code."""

    code: str = "UNKNOWN"


@contextmanager
def counted(
    method: str, parent: TraceParent | None, emit: Emit, tracer: CallTracer
) -> Iterator[CallOutcome]:
    """Count what happens inside the block.

    Args:
        method: full path, `/package.Service/Method`; of a fixed set.
        parent: the caller's place in a trace, None where it gave none.
        emit: where the events go.
        tracer: begins the call's span.
    """
    begun = time.monotonic()
    span = tracer.start(method, parent)
    # Every call has a task, and so a context, of its own: nothing has to be set back.
    CURRENT_TRACE.set(span.traceparent)
    emit(CallStarted(method))
    outcome = CallOutcome()
    try:
        yield outcome
    finally:
        span.end(outcome.code)
        emit(CallEnded(method, outcome.code, time.monotonic() - begun))
