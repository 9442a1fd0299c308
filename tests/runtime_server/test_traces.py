"""Traces: spans of calls, components and shared runs, with the codes that others leave out."""

import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.telemetry.server_events import EngineRan, TracedRequest
from runtime_server.telemetry.traces import (
    CODE_ATTRIBUTE,
    TraceRecorder,
    open_provider,
    remote_span,
)
from tests.support.serving import (
    PROMPT,
    RunningServer,
    child_server,
    connect,
    request_message,
    results_of,
    running,
    wait_until,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALL = "cascade.v1.CascadeService/Generate"
LONG = {"sr16": pb.StageOptions(steps=1000), "sr32": pb.StageOptions(steps=1000)}


class Traced:
    """A server and the spans that have ended."""

    def __init__(self, server: RunningServer, exporter: InMemorySpanExporter) -> None:
        self.server = server
        self._exporter = exporter

    def spans(self, name: str) -> list[ReadableSpan]:
        """Those of a name, in the order of their ends."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def call(self, number: int = 1) -> ReadableSpan:
        """The span of the last of so many calls."""
        wait_until(lambda: len(self.spans(CALL)) == number)
        return self.spans(CALL)[-1]


@pytest.fixture
def traced(slow_bundle: Bundle) -> Iterator[Traced]:
    """A server that is traced into memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    recorder = TraceRecorder(provider)
    with running(slow_bundle, emit=recorder, tracer=recorder) as server:
        yield Traced(server, exporter)
    provider.shutdown()


def message(bundle: Bundle, request_id: str, options: Any = None) -> Any:
    """A request for the whole cascade."""
    return request_message(
        bundle, request_id=request_id, prompt=pb.PromptStart(prompt=PROMPT), options=options or {}
    )


def identity_of(span: ReadableSpan) -> tuple[int, int]:
    """Trace and span."""
    context = span.get_span_context()
    return context.trace_id, context.span_id


def test_a_call_continues_its_callers_trace(traced: Traced, slow_bundle: Bundle) -> None:
    """Components are its children; runs of the engine are linked to it."""
    metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
    options = {"base": pb.StageOptions(steps=2), "sr16": pb.StageOptions(steps=1)}
    with connect(traced.server.address) as caller:
        results_of(caller.generate(message(slow_bundle, "one", options), 60, metadata))
    call = traced.call()
    assert call.kind is SpanKind.SERVER
    assert f"{call.get_span_context().trace_id:032x}" == TRACE
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == SPAN
    assert call.parent.is_remote
    assert call.attributes is not None
    assert call.attributes[CODE_ATTRIBUTE] == 0
    assert call.status.status_code is StatusCode.UNSET
    for stage, steps in (("text_encoder", 1), ("base", 2), ("sr16", 1), ("sr32", 40)):
        (span,) = traced.spans(f"stage {stage}")
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == identity_of(call)
        assert call.start_time is not None
        assert span.start_time is not None
        assert span.end_time is not None
        assert call.start_time - 1_000_000 <= span.start_time <= span.end_time
        runs = traced.spans(f"step {stage}")
        assert len(runs) == steps
        for run in runs:
            assert run.parent is None
            (link,) = run.links
            assert (link.context.trace_id, link.context.span_id) == identity_of(call)
            assert run.end_time is not None
            assert run.end_time <= span.end_time


def test_a_shared_run_is_linked_to_all_of_its_requests() -> None:
    """And belongs to none of their traces; a request of no traced call is left out."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    recorder = TraceRecorder(provider)
    calls_of = {name: recorder.start("/a.B/Generate", None) for name in ("r0", "r1")}
    traced = tuple(TracedRequest(name, call.traceparent) for name, call in calls_of.items())
    untraced = TracedRequest("r2")
    now = time.monotonic()
    recorder(EngineRan("sr32", (*traced, untraced), now, 0.25))
    recorder(EngineRan("sr32", (untraced,), now, 0.25))
    for call in calls_of.values():
        call.end("OK")
    spans = exporter.get_finished_spans()
    calls = [identity_of(span) for span in spans if span.name == "a.B/Generate"]
    (run,) = [span for span in spans if span.name == "step sr32"]
    assert [(link.context.trace_id, link.context.span_id) for link in run.links] == calls
    assert run.attributes is not None
    assert run.attributes["cascade.rows"] == 3
    assert run.start_time is not None
    assert run.end_time == run.start_time + 250_000_000
    assert identity_of(run)[0] not in {trace for trace, _ in calls}
    provider.shutdown()


@pytest.mark.parametrize(("how", "code"), [("cancelled", 1), ("late", 4)])
def test_cancelled_and_late_calls_say_so(
    how: str, code: int, traced: Traced, slow_bundle: Bundle
) -> None:
    """The call's span and that of the component that it was in."""
    # Time enough to come into the long stages on a busy machine, too little to come through.
    timeout_s = 3.0 if how == "late" else 60
    with connect(traced.server.address) as caller:
        call = caller.generate(message(slow_bundle, "one", LONG), timeout_s)
        if how == "cancelled":
            for response in call:
                if response.WhichOneof("event") == "progress" and response.progress.stage == "sr16":
                    call.cancel()
                    break
        else:
            with pytest.raises(grpc.RpcError):
                list(call)
        span = traced.call()
    assert span.attributes is not None
    assert span.attributes[CODE_ATTRIBUTE] == code
    assert span.status.status_code is StatusCode.ERROR
    wait_until(lambda: any(traced.spans(f"stage {stage}") for stage in ("sr16", "sr32")))
    cut_short = (*traced.spans("stage sr16"), *traced.spans("stage sr32"))[-1]
    assert cut_short.attributes is not None
    assert cut_short.attributes[CODE_ATTRIBUTE] == code
    assert cut_short.status.status_code is StatusCode.ERROR


def test_what_its_caller_does_not_record_is_not_recorded(
    traced: Traced, slow_bundle: Bundle
) -> None:
    """The flag of the header is obeyed, for steps too; a wrong header begins a trace of its own."""
    with connect(traced.server.address) as caller:
        unsampled = (("traceparent", f"00-{TRACE}-{SPAN}-00"),)
        results_of(caller.generate(message(slow_bundle, "one"), 60, unsampled))
        wrong = (("traceparent", f"00-{TRACE}-{SPAN}-01-more"),)
        results_of(caller.generate(message(slow_bundle, "two"), 60, wrong))
    call = traced.call()
    assert call.parent is None
    assert f"{call.get_span_context().trace_id:032x}" != TRACE
    for span in (*traced.spans("stage base"), *traced.spans("step base")):
        links = [link.context.trace_id for link in span.links]
        assert set(links or [identity_of(span)[0]]) == {identity_of(call)[0]}


def test_log_lines_carry_the_trace(bundle: Bundle) -> None:
    """With traces on or off, as long as the caller has one; spans are lines of JSON too."""
    metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
    for options in (("--traces", "stderr"), ("--traces", "off")):
        listen = ("--listen", "127.0.0.1:0", "--threads", "1", *options)
        with child_server(bundle.folder, *listen) as (child, line):
            with connect(json.loads(line())["address"]) as caller:
                results_of(caller.generate(message(bundle, "one"), 60, metadata))
                caller.server_info()
            child.terminate()
            assert child.wait(timeout=120) == 0
            assert child.stderr is not None
            lines = [json.loads(entry) for entry in child.stderr.read().splitlines()]
        (generate,) = [entry for entry in lines if entry.get("event") == "generate"]
        assert generate["trace_id"] == TRACE
        spans = [entry["name"] for entry in lines if "kind" in entry]
        assert (CALL in spans) == (options[1] == "stderr")


def test_without_a_parent_a_trace_begins() -> None:
    """Also where another context is the present one."""
    provider = open_provider("stderr")
    try:
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("outer") as outer:
            inner: Any = tracer.start_span(
                "inner", context=trace.set_span_in_context(remote_span(None))
            )
            assert inner.parent is None
            assert inner.get_span_context().trace_id != outer.get_span_context().trace_id
    finally:
        provider.shutdown()
