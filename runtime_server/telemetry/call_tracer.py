"""The span of a call, as the interceptor begins and ends it, whether or not anything is traced.

The span is a value that is passed on: a request carries its `traceparent` to the engine's threads.
Knows no OpenTelemetry; `traces` has the tracer that does.
"""

from typing import Protocol

from runtime_server.telemetry.traceparent import TraceParent


class CallSpan(Protocol):
    """One call in a trace."""

    @property
    def traceparent(self) -> TraceParent | None:
        """What a child of this call continues; None where there is no trace."""
        ...

    def end(self, code: str) -> None:
        """The call is over, with that status code by name."""
        ...


class CallTracer(Protocol):
    """Begins the spans of calls."""

    def start(self, method: str, parent: TraceParent | None) -> CallSpan:
        """The span of a call that begins now.

        Args:
            method: its full path, `/package.Service/Method`.
            parent: the caller's, None where it gave none.
        """
        ...


class Untraced:
    """A call that nobody records: log lines carry its caller's trace, if it has one."""

    def __init__(self, parent: TraceParent | None) -> None:
        self.traceparent = parent

    def end(self, code: str) -> None:
        """Nothing was begun."""


class NoTracer:
    """Traces nothing."""

    def start(self, method: str, parent: TraceParent | None) -> CallSpan:
        """See `CallTracer`."""
        del method
        return Untraced(parent)


NO_TRACER = NoTracer()
"""What a server has that traces nothing."""
