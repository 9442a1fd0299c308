"""What happened, as OpenTelemetry spans: a call, its components, and the runs that requests shared.

A call's span continues the caller's `traceparent`. A component's span is its child; a run of an
engine is a span of its own with a link to every request in it, for it belongs to none alone. What
was cancelled or late says so with its gRPC code, which the usual instruments do not. The one file
that knows OpenTelemetry.

References:
    https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

import sys
import time

from cascade import __version__
from cascade.errors import MissingExtra
from runtime_server.telemetry.call_tracer import CallSpan
from runtime_server.telemetry.server_events import EngineRan, ServerEvent, StageEnded
from runtime_server.telemetry.traceparent import TraceParent

try:
    from opentelemetry import trace
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


class TraceRecorder:
    """Makes spans: of calls, which the interceptor begins and ends, and of events as a listener."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        """Nothing traced yet.

        Args:
            provider: where the spans go.
        """
        self._tracer = provider.get_tracer("edge-cascade", __version__)
        # Times are told on the monotonic clock, spans have the time of day.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def start(self, method: str, parent: TraceParent | None) -> CallSpan:
        """The span of a call; see `CallTracer`."""
        _, service, name = method.split("/")
        span = self._tracer.start_span(
            f"{service}/{name}",
            context=trace.set_span_in_context(remote_span(parent)),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        return RecordedCall(span)

    def __call__(self, event: ServerEvent) -> None:
        """Make a span of what is one."""
        if isinstance(event, StageEnded):
            self._stage_ended(event)
        elif isinstance(event, EngineRan):
            self._engine_ran(event)

    def _engine_ran(self, event: EngineRan) -> None:
        """A span of its own, linked to the requests that shared the run."""
        known = [request.trace for request in event.requests if request.trace is not None]
        # The span begins a trace of its own, so it is for its requests to say whether to record it.
        if not any(parent.sampled for parent in known):
            return
        span = self._tracer.start_span(
            f"step {event.stage}",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            links=[Link(span_context(parent, is_remote=False)) for parent in known],
            attributes={"cascade.stage": event.stage, "cascade.rows": len(event.requests)},
            start_time=self._time_ns(event.begun),
        )
        span.end(self._time_ns(event.begun + event.seconds))

    def _stage_ended(self, event: StageEnded) -> None:
        """A span under the request's call, with the code that ended it."""
        parent = event.request.trace
        if parent is None:
            return
        local = trace.NonRecordingSpan(span_context(parent, is_remote=False))
        span = self._tracer.start_span(
            f"stage {event.stage}",
            context=trace.set_span_in_context(local),
            attributes={
                "cascade.stage": event.stage,
                "cascade.request_id": event.request.request_id,
            },
            start_time=self._time_ns(event.begun),
        )
        end(span, event.code, self._time_ns(event.begun + event.seconds))

    def _time_ns(self, monotonic_s: float) -> int:
        """A time on the monotonic clock as time of day, in nanoseconds."""
        return self._epoch_ns + round(1e9 * monotonic_s)


def end(span: trace.Span, code: str, at_ns: int | None = None) -> None:
    """End a span with the status code by name; now when no time is given."""
    span.set_attribute(CODE_ATTRIBUTE, CODES.index(code))
    if code != "OK":
        span.set_status(Status(StatusCode.ERROR, code))
    span.end(at_ns)


def remote_span(parent: TraceParent | None) -> trace.Span:
    """The caller's span, which ours continues; that of no trace when there is no parent."""
    if parent is None:
        return trace.INVALID_SPAN
    return trace.NonRecordingSpan(span_context(parent, is_remote=True))


def span_context(place: TraceParent, *, is_remote: bool) -> SpanContext:
    """A place in a trace as OpenTelemetry has it."""
    return SpanContext(
        trace_id=int(place.trace_id, 16),
        span_id=int(place.span_id, 16),
        is_remote=is_remote,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT),
    )


class RecordedCall:
    """The span of one call."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent: TraceParent | None = TraceParent(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled
        )

    def end(self, code: str) -> None:
        """It is over, with that status code by name."""
        end(self._span, code)


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
