"""Every call counted at the outermost place, also those that no handler of ours ever sees.

A gRPC interceptor before all others. A call that its caller gave up or whose time was over is told
apart from one that succeeded, which gRPC's own instruments do not. Knows gRPC; not what is counted.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from runtime_server.app.departures import cancelled_if_gone
from runtime_server.app.grpc_aio import CallAborted, Continuation, code_of, kind_of
from runtime_server.telemetry.call_tracer import CallTracer
from runtime_server.telemetry.counted_call import counted
from runtime_server.telemetry.server_events import CallEnded, CallStarted, Emit
from runtime_server.telemetry.traceparent import TraceParent, find_traceparent

UNKNOWN_METHOD = "/unknown/unknown"
"""What a call of no method of ours counts as: a caller must not be able to make up new series."""
TRAVEL_S = 0.25
"""How much earlier than here a caller's time may be over: what a request takes to arrive."""


class CallMetrics:
    """Emits of every call that it began, how it ended and how long it took, and traces it."""

    def __init__(self, emit: Emit, tracer: CallTracer) -> None:
        """An interceptor.

        Args:
            emit: where the events go.
            tracer: begins the span of each call.
        """
        self._emit = emit
        self._tracer = tracer

    async def intercept(self, continuation: Continuation, details: Any) -> Any:
        """The handler of a call, counted."""
        handler = await continuation(details)
        trace = find_traceparent(details.invocation_metadata or ())
        # No handler of anybody: gRPC answers by itself, and no one else would count it.
        if handler is None:
            self._emit(CallStarted(UNKNOWN_METHOD))
            self._tracer.start(UNKNOWN_METHOD, None).end("UNIMPLEMENTED")
            self._emit(CallEnded(UNKNOWN_METHOD, "UNIMPLEMENTED", 0.0))
            return None
        kind = kind_of(handler)
        call = CountedCall(details.method, trace, self._emit, self._tracer)
        return handler._replace(**{kind: call.around(getattr(handler, kind))})


class CountedCall:
    """One call, from its arrival to its end."""

    def __init__(
        self, method: str, parent: TraceParent | None, emit: Emit, tracer: CallTracer
    ) -> None:
        """A call that has not begun.

        Args:
            method: full path; of a method that there is.
            parent: the caller's place in a trace, None where it gave none.
            emit: where the events go.
            tracer: begins the call's span.
        """
        self._method = method
        self._parent = parent
        self._emit = emit
        self._tracer = tracer

    def around(self, behaviour: Any) -> Any:
        """A handler's function, counted; of the same kind as it was."""
        if inspect.isasyncgenfunction(behaviour):

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._counted(context):
                    async for response in behaviour(request, context):
                        yield response

            return stream

        async def answer(request: Any, context: Any) -> Any:
            with self._counted(context):
                async with cancelled_if_gone():
                    return await behaviour(request, context)

        return answer

    @contextmanager
    def _counted(self, context: Any) -> Iterator[None]:
        """Count what happens inside the block."""
        with counted(self._method, self._parent, self._emit, self._tracer) as outcome:
            try:
                yield
                outcome.code = code_of(context)
            # The handler has set its status and left by gRPC's exception.
            except CallAborted:
                outcome.code = code_of(context)
                raise
            except BaseException as exc:
                outcome.code = code_of_broken(context, exc)
                raise


def code_of_broken(context: Any, error: BaseException) -> str:
    """How a call ended whose handler did not: its time was over, its caller left, or it broke.

    One that broke ends with the code that its handler had set, as gRPC does it.
    """
    if time_is_over(context):
        return "DEADLINE_EXCEEDED"
    if isinstance(error, asyncio.CancelledError | GeneratorExit) or context.cancelled():
        return "CANCELLED"
    code = code_of(context)
    return "UNKNOWN" if code == "OK" else code


def time_is_over(context: Any) -> bool:
    """Whether a call that was taken back was so because its time was over.

    A caller counts from before its request travelled, takes the call back when its time is over,
    and so is always a little ahead of the time that is left here.
    """
    left_s = context.time_remaining()
    return left_s is not None and left_s <= TRAVEL_S
