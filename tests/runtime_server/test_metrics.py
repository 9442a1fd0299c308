"""Metrics: after a load whose every outcome is known, each counter says exactly that."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.auth.static_keys import hash_token
from runtime_server.lifecycle.load_reader import read_load
from runtime_server.telemetry.metrics import PrometheusMetrics, call_labels, camel_case
from runtime_server.telemetry.server_events import Refusal, ReloadOutcome
from tests.support.serving import (
    HANG_S,
    PROMPT,
    RunningServer,
    connect,
    details_of,
    request_message,
    results_of,
    running,
    wait_until,
)

Values = dict[tuple[str, frozenset[str]], float]
LONG = {"sr16": pb.StageOptions(steps=1000), "sr32": pb.StageOptions(steps=1000)}
BEARER = "what ann was handed out"


class Watched:
    """A server with metrics, and what they say."""

    def __init__(self, server: RunningServer, metrics: PrometheusMetrics) -> None:
        self.server = server
        self.metrics = metrics

    def values(self) -> Values:
        """Every sample: name and label values to value."""
        families = text_string_to_metric_families(
            self.metrics.exposition(read_load(self.server.server)).decode()
        )
        return {
            (sample.name, frozenset(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, *labels: str) -> float:
        """One sample; 0 where there is none yet."""
        return self.values().get((name, frozenset(labels)), 0.0)


@pytest.fixture
def watch(slow_bundle: Bundle) -> Iterator[Callable[..., Watched]]:
    """Starts servers with metrics."""
    with ExitStack() as stack:

        def start(bundle: Bundle = slow_bundle, **settings: Any) -> Watched:
            metrics = PrometheusMetrics()
            server = stack.enter_context(running(bundle, emit=metrics, **settings))
            return Watched(server, metrics)

        yield start


def message(bundle: Bundle, request_id: str, *, long: bool = False) -> Any:
    """A request for the whole cascade."""
    options = LONG if long else {}
    return request_message(
        bundle, request_id=request_id, prompt=pb.PromptStart(prompt=PROMPT), options=options
    )


def fails(call: Callable[[], Any]) -> str:
    """The code that a call fails with."""
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return str(failed.value.code().name)


def test_counters_equal_what_happened(
    watch: Callable[..., Watched], slow_bundle: Bundle, tmp_path: Path
) -> None:
    """Good, cancelled, expired, malformed, refused: by code, by place, by reason."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'ann = "{hash_token(BEARER)}"\n')
    watched = watch(
        max_queued_per_stage=2,
        max_running=1,
        max_in_flight_per_identity=2,
        token_keys=keys,
    )
    credentials = (("authorization", f"Bearer {BEARER}"),)
    with connect(watched.server.address) as caller:

        def ask(request_id: str, *, long: bool = False, timeout_s: float | None = None) -> Any:
            data = message(slow_bundle, request_id, long=long)
            return caller.generate(data, timeout_s, credentials)

        # One whose time is over while it runs.
        assert fails(lambda: list(ask("late", long=True, timeout_s=3))) == "DEADLINE_EXCEEDED"
        stopped = ("cascade_stopped_total", "running", "DeadlineExceeded")
        wait_until(lambda: watched.value(*stopped) == 1)
        # Three good ones, one of them asked for twice.
        for name in ("good-1", "good-2", "good-2"):
            assert len(results_of(ask(name))) == 4
        # One runs, one waits, a third is one too many for its caller.
        runs = ask("runs", long=True)
        begin(runs)
        waits = ask("waits", long=True)
        next(waits)
        assert fails(lambda: list(ask("third"))) == "RESOURCE_EXHAUSTED"
        waits.cancel()
        wait_until(lambda: watched.value("cascade_stopped_total", "queue", "Canceled") == 1)
        runs.cancel()
        wait_until(lambda: watched.value("cascade_stopped_total", "running", "Canceled") == 1)
        wait_until(lambda: watched.server.is_at_rest)
        # One that could not be through in time, now that it is known how long a step takes.
        assert fails(lambda: list(ask("too-late", long=True, timeout_s=4))) == "DEADLINE_EXCEEDED"
        # Malformed, of another bundle, without a name.
        assert fails(lambda: list(caller.generate(b"\xff\xff", 60, credentials))) == (
            "INVALID_ARGUMENT"
        )
        wrong = request_message(slow_bundle, request_id="wrong id", bundle_id="none")
        assert fails(lambda: list(caller.generate(wrong, 60, credentials))) == "INVALID_ARGUMENT"
        assert fails(lambda: list(caller.generate(message(slow_bundle, "nobody")))) == (
            "UNAUTHENTICATED"
        )
        wait_until(lambda: watched.server.is_at_rest)
        # The last answers are counted a moment after they are sent.
        wait_until(lambda: watched.value(*handled("Unauthenticated")) == 1)
        wait_until(lambda: watched.value(*handled("DeadlineExceeded")) == 2)
    expect = {
        handled("OK"): 3,
        handled("Canceled"): 2,
        handled("DeadlineExceeded"): 2,
        handled("ResourceExhausted"): 1,
        handled("InvalidArgument"): 2,
        handled("Unauthenticated"): 1,
        ("grpc_server_started_total", *GENERATE): 11,
        ("grpc_server_handling_seconds_count", *GENERATE): 11,
        # `good-2` was taken in once.
        ("cascade_requests_total",): 5,
        ("cascade_refused_total", "identity"): 1,
        ("cascade_refused_total", "deadline"): 1,
        ("cascade_refused_total", "invalid"): 2,
        ("cascade_refused_total", "auth"): 1,
        ("cascade_stopped_total", "queue", "Canceled"): 1,
        ("cascade_stopped_total", "running", "Canceled"): 1,
        ("cascade_stopped_total", "running", "DeadlineExceeded"): 1,
        ("cascade_stage_seconds_count", "text_encoder"): 4,
        ("cascade_stage_seconds_count", "sr32"): 2,
        ("cascade_in_flight",): 0,
        ("cascade_running",): 0,
        ("cascade_in_flight_bytes",): 0,
        ("cascade_ready",): 1,
        ("cascade_bundles",): 1,
    }
    values = watched.values()
    # The failure of the late one is kept too, if its call was gone before it.
    assert values["cascade_results", frozenset()] in (2, 3)
    found = {key: values.get((key[0], frozenset(key[1:])), 0.0) for key in expect}
    assert found == expect
    for name in ("cascade_refused_total", "cascade_stopped_total"):
        total = sum(value for (found_name, _), value in values.items() if found_name == name)
        assert total == sum(count for key, count in expect.items() if key[0] == name)


GENERATE = ("server_stream", "cascade.v1.CascadeService", "Generate")


def handled(code: str) -> tuple[str, ...]:
    """The counter of Generate calls that ended with a code."""
    return ("grpc_server_handled_total", *GENERATE, code)


def begin(call: Any) -> None:
    """Read a call until its super-resolution has begun."""
    for response in call:
        if response.WhichOneof("event") == "progress" and response.progress.stage == "sr16":
            return


def test_steps_and_queues_are_measured(watch: Callable[..., Watched], bundle: Bundle) -> None:
    """A run per step and row, a wait per component, and the gauges of every component."""
    watched = watch(bundle)
    with connect(watched.server.address) as caller:
        list(caller.generate(message(bundle, "one")))
    wait_until(lambda: watched.server.is_at_rest)
    for stage, runs in (("text_encoder", 1), ("base", 3), ("sr16", 3), ("sr32", 3)):
        assert watched.value("cascade_batch_rows_count", stage) == runs
        assert watched.value("cascade_batch_rows_sum", stage) == runs
        assert watched.value("cascade_step_milliseconds_count", stage) == runs
        assert watched.value("cascade_queue_seconds_count", stage) == 1
        assert watched.value("cascade_stage_seconds_count", stage) == 1
        assert watched.value("cascade_stage_serving", stage) == 1
        assert watched.value("cascade_queue_depth", stage) == 0
        assert watched.value("cascade_stage_info", stage, "ort", "fp32") == 1
    message_bytes = len(message(bundle, "one").SerializeToString())
    assert watched.value("cascade_message_bytes_total", "in") == message_bytes
    assert watched.value("cascade_message_bytes_total", "out") > 1000
    assert watched.value("process_resident_memory_bytes") > 1 << 20


def test_calls_of_other_services_and_of_no_service_are_counted(
    watch: Callable[..., Watched], bundle: Bundle
) -> None:
    """A caller cannot make up series."""
    watched = watch(bundle)
    with connect(watched.server.address) as caller:
        stub = health_pb2_grpc.HealthStub(caller.channel)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=120)
        for method in ("/made.Up/Method", "/cascade.v1.CascadeService/Other", "/x/y"):
            assert fails(lambda: caller.channel.unary_unary(method)(b"", timeout=120)) == (  # noqa: B023
                "UNIMPLEMENTED"
            )
    check = ("unary", "grpc.health.v1.Health", "Check")
    assert watched.value("grpc_server_handled_total", *check, "OK") == 1
    unknown = ("unary", "unknown", "unknown")
    wait_until(
        lambda: watched.value("grpc_server_handled_total", "unary", "unknown", "Unimplemented") == 3
    )
    assert watched.value("grpc_server_started_total", *unknown) == 3
    assert not any("made.Up" in labels for _, labels in watched.values())


@pytest.mark.parametrize(
    ("method", "open_call"),
    [
        ("/grpc.health.v1.Health/Check", "unary_unary"),
        ("/grpc.health.v1.Health/Watch", "unary_stream"),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "stream_stream"),
    ],
)
def test_garbage_to_other_services_is_their_callers_fault(
    watch: Callable[..., Watched], bundle: Bundle, method: str, open_call: str
) -> None:
    """INVALID_ARGUMENT with its details and counted so: Unknown would wake somebody."""
    watched = watch(bundle, reflection=True)
    with connect(watched.server.address) as caller:
        call = getattr(caller.channel, open_call)(method)
        garbage: Any = iter([b"\xff\xff"]) if open_call == "stream_stream" else b"\xff\xff"
        with pytest.raises(grpc.RpcError) as failed:
            list(call(garbage, timeout=HANG_S))
        assert details_of(failed.value)[:3] == ("INVALID_ARGUMENT", "INVALID_REQUEST", "message")
    labels = (*call_labels(method), "InvalidArgument")
    wait_until(lambda: watched.value("grpc_server_handled_total", *labels) == 1)
    handled = [name for name, _ in watched.values() if name == "grpc_server_handled_total"]
    assert len(handled) == 1


def test_two_servers_in_one_process_count_for_themselves(
    watch: Callable[..., Watched], bundle: Bundle
) -> None:
    """No registry is shared."""
    first, second = watch(bundle), watch(bundle)
    with connect(first.server.address) as caller:
        caller.server_info()
    info = ("unary", "cascade.v1.CascadeService", "GetServerInfo")
    assert first.value("grpc_server_handled_total", *info, "OK") == 1
    assert second.value("grpc_server_handled_total", *info, "OK") == 0


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("OK", "OK"),
        ("CANCELLED", "Canceled"),
        ("DEADLINE_EXCEEDED", "DeadlineExceeded"),
        ("INTERNAL", "Internal"),
    ],
)
def test_codes_are_written_as_go_writes_them(code: str, written: str) -> None:
    """So that the usual dashboards fit."""
    assert camel_case(code) == written


def test_calls_are_labelled_as_go_grpc_prometheus_does() -> None:
    """Type, service, method."""
    assert call_labels("/grpc.health.v1.Health/Watch") == (
        "server_stream",
        "grpc.health.v1.Health",
        "Watch",
    )
    assert call_labels("/a.B/ServerReflectionInfo")[0] == "bidi_stream"


def test_counters_of_known_labels_begin_at_0() -> None:
    """`increase()` of Prometheus does not see a series that is first exposed with a 1."""
    lines = PrometheusMetrics().exposition().decode().splitlines()
    for outcome in get_args(ReloadOutcome):
        assert f'cascade_reloads_total{{outcome="{outcome}"}} 0.0' in lines
    for reason in get_args(Refusal):
        assert f'cascade_refused_total{{reason="{reason}"}} 0.0' in lines
