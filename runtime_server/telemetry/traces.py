"""What happened, as OpenTelemetry spans: a call, its components, and the runs that requests shared.

A call's span continues the caller's `traceparent`. A component's span is its child; a run of an
engine is a span of its own with a link to every request in it, for it belongs to none alone. What
was cancelled or late says so with its gRPC code, which the usual instruments do not. The one file
that knows OpenTelemetry.

References:
    https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

import sys
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar

from cascade import __version__
from cascade.errors import MissingExtra
from runtime_server.telemetry.logs import TRACE_ID
from runtime_server.telemetry.observer import Failure, Observer
from runtime_server.telemetry.traceparent import CALLERS_TRACE, TraceParent

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SpanExporter,
    )
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as exc:
    raise MissingExtra(
        "traces need OpenTelemetry: pip install 'edge-cascade[server,traces]'"
    ) from exc

CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""gRPC's status codes by number."""
CODE_ATTRIBUTE = "rpc.grpc.status_code"

CALL: ContextVar[trace.Span | None] = ContextVar("call", default=None)
"""The span of the present call."""


class TraceRecorder(Observer):
    """Makes spans of what it is told."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        """Nothing traced yet.

        Args:
            provider: where the spans go.
        """
        self._tracer = provider.get_tracer("edge-cascade", __version__)
        self._lock = threading.Lock()
        self._requests: dict[str, SpanContext] = {}
        # Times are told on the monotonic clock, spans have the time of day.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def call_started(self, method: str) -> None:
        """Begin its span; the log lines of the call carry its trace."""
        _, service, name = method.split("/")
        span = self._tracer.start_span(
            f"{service}/{name}",
            context=context_of(CALLERS_TRACE.get()),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        CALL.set(span)
        TRACE_ID.set(f"{span.get_span_context().trace_id:032x}")

    def call_handled(self, method: str, code: str, seconds: float) -> None:
        """End its span."""
        del method, seconds
        span = CALL.get()
        if span is not None:
            end(span, code)
            CALL.set(None)

    def arriving(self, request_id: str) -> None:
        """Remember whose call it was, for what is done for it later."""
        span = CALL.get()
        if span is not None:
            with self._lock:
                self._requests[request_id] = span.get_span_context()

    def left(self, request_id: str) -> None:
        """Forget it."""
        with self._lock:
            self._requests.pop(request_id, None)

    def turned_away(self, request_id: str) -> None:
        """Forget it."""
        self.left(request_id)

    def stage_finished(self, stage: str, request_id: str, begun: float, seconds: float) -> None:
        """A span under the request's call."""
        self._stage(stage, request_id, begun, Failure("OK", seconds))

    def stage_failed(self, stage: str, request_id: str, begun: float, failure: Failure) -> None:
        """A span under the request's call, with the code that ended it."""
        self._stage(stage, request_id, begun, failure)

    def stepped(self, stage: str, request_ids: Sequence[str], begun: float, seconds: float) -> None:
        """A span of its own, linked to the requests that shared the run."""
        with self._lock:
            known = [self._requests[name] for name in request_ids if name in self._requests]
        if not any(context.trace_flags.sampled for context in known):
            return
        span = self._tracer.start_span(
            f"step {stage}",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            links=[Link(context) for context in known],
            attributes={"cascade.stage": stage, "cascade.rows": len(request_ids)},
            start_time=self._time_ns(begun),
        )
        span.end(self._time_ns(begun + seconds))

    def _stage(self, stage: str, request_id: str, begun: float, outcome: Failure) -> None:
        """The span of one component's work for one request."""
        with self._lock:
            parent = self._requests.get(request_id)
        if parent is None:
            return
        span = self._tracer.start_span(
            f"stage {stage}",
            context=trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            attributes={"cascade.stage": stage, "cascade.request_id": request_id},
            start_time=self._time_ns(begun),
        )
        end(span, outcome.code, self._time_ns(begun + outcome.seconds))

    def _time_ns(self, monotonic_s: float) -> int:
        """A time on the monotonic clock as time of day, in nanoseconds."""
        return self._epoch_ns + round(1e9 * monotonic_s)


def end(span: trace.Span, code: str, at_ns: int | None = None) -> None:
    """End a span with the status code by name; now when no time is given."""
    span.set_attribute(CODE_ATTRIBUTE, CODES.index(code))
    if code != "OK":
        span.set_status(Status(StatusCode.ERROR, code))
    span.end(at_ns)


def context_of(parent: TraceParent | None) -> Context:
    """The context that a span continues; that of a new trace when there is no parent."""
    if parent is None:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    remote = SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(remote))


def open_provider(where: str) -> TracerProvider:
    """Where spans go, as configured; shut down by whoever opened it.

    Args:
        where: `otlp` sends them to a collector, which the variables `OTEL_EXPORTER_OTLP_...` name;
            `stderr` writes one JSON object per line.

    Raises:
        MissingExtra: the exporter is not installed.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": "edge-cascade"}))
    provider.add_span_processor(BatchSpanProcessor(open_exporter(where)))
    return provider


def open_exporter(where: str) -> SpanExporter:
    """See `open_provider`."""
    if where == "stderr":
        return ConsoleSpanExporter(out=sys.stderr, formatter=one_line)
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as exc:
        raise MissingExtra(
            "traces=otlp needs its exporter: pip install opentelemetry-exporter-otlp-proto-grpc"
        ) from exc
    exporter: SpanExporter = OTLPSpanExporter()
    return exporter


def one_line(span: ReadableSpan) -> str:
    """A span as one line of JSON."""
    return f"{span.to_json(indent=None)}\n"
