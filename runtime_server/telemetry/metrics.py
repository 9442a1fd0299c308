"""What happened, as Prometheus counters and histograms in a registry of their own.

The names of calls are those of go-grpc-prometheus, so that its dashboards fit. Label values come
from fixed sets: a caller can make no new series. The one file that knows prometheus_client.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, get_args

from cascade.errors import MissingExtra
from runtime_server.telemetry.load import ReplicaLoad, ServerLoad
from runtime_server.telemetry.server_events import (
    BundleReloaded,
    BytesMoved,
    CallEnded,
    CallStarted,
    EngineRan,
    LossReason,
    QueueLeft,
    Refusal,
    ReloadOutcome,
    RepeatOutcome,
    ReplicaReplaced,
    RequestAdmitted,
    RequestRefused,
    RequestStopped,
    ServerEvent,
    StageEnded,
    WorkRepeated,
)

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily, Metric
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.registry import Collector
except ImportError as exc:
    raise MissingExtra(
        "the server's packages are not installed: pip install 'edge-cascade[server]'"
    ) from exc

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
"""Calls take from milliseconds (health) to minutes (a long queue)."""
STEP_MILLISECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
BATCH_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class PrometheusMetrics:
    """A listener that counts events."""

    content_type: str = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        histogram = partial(make_histogram, self._registry)
        call = ["grpc_type", "grpc_service", "grpc_method"]
        self._started = counter("grpc_server_started", "Calls that arrived.", call)
        self._handled = counter(
            "grpc_server_handled", "Calls that ended, by status code.", [*call, "grpc_code"]
        )
        self._handling = histogram(
            "grpc_server_handling_seconds", "From arrival to end of a call.", call, CALL_SECONDS
        )
        self._bytes = counter(
            "cascade_message_bytes", "Payload of calls, compression left out.", ["direction"]
        )
        self._refused = counter(
            "cascade_refused", "Requests turned away before any work.", ["reason"]
        )
        self._stopped = counter(
            "cascade_stopped", "Requests that ended early, by where they were.", ["where", "code"]
        )
        self._entered = counter("cascade_requests", "Requests taken in.", [])
        self._waited = histogram(
            "cascade_queue_seconds", "Time in a component's queue.", ["stage"], CALL_SECONDS
        )
        self._rows = histogram(
            "cascade_batch_rows", "Requests that shared one run.", ["stage"], BATCH_ROWS
        )
        self._step = histogram(
            "cascade_step_milliseconds", "One run of an engine.", ["stage"], STEP_MILLISECONDS
        )
        self._stage = histogram(
            "cascade_stage_seconds", "A component's work for one request.", ["stage"], CALL_SECONDS
        )
        self._failed = counter(
            "cascade_stage_failures", "Components that began and did not end.", ["stage", "code"]
        )
        self._reloads = counter("cascade_reloads", "Reloads of the bundle.", ["outcome"])
        self._replaced = counter(
            "cascade_replica_losses", "Replicas that ended or fell silent.", ["reason"]
        )
        self._repeated = counter(
            "cascade_work_repeated", "Requests whose replica was lost.", ["outcome"]
        )
        # `increase()` does not see a series that begins with 1: the first one would raise no alert.
        for outcome in get_args(ReloadOutcome):
            self._reloads.labels(outcome)
        for loss in get_args(LossReason):
            self._replaced.labels(loss)
        for repeat in get_args(RepeatOutcome):
            self._repeated.labels(repeat)
        for reason in get_args(Refusal):
            self._refused.labels(reason)
        # Finding a series by its labels costs more than counting: each is looked up once.
        self._started_by = cache(lambda method: self._started.labels(*call_labels(method)))
        self._handled_by = cache(
            lambda method, code: self._handled.labels(*call_labels(method), camel_case(code))
        )
        self._handling_by = cache(lambda method: self._handling.labels(*call_labels(method)))
        self._refused_by = cache(self._refused.labels)
        self._counts: dict[type, Callable[[Any], None]] = {
            CallStarted: self._call_started,
            CallEnded: self._call_ended,
            BytesMoved: self._bytes_moved,
            RequestRefused: self._request_refused,
            # The id would be a series of its own.
            RequestAdmitted: lambda _: self._entered.inc(),
            RequestStopped: self._request_stopped,
            QueueLeft: self._queue_left,
            EngineRan: self._engine_ran,
            StageEnded: self._stage_ended,
            BundleReloaded: lambda event: self._reloads.labels(event.outcome).inc(),
            ReplicaReplaced: lambda event: self._replaced.labels(event.reason).inc(),
            WorkRepeated: lambda event: self._repeated.labels(event.outcome).inc(),
        }

    def exposition(self, load: ServerLoad | None = None) -> bytes:
        """Everything in the text format of Prometheus.

        Args:
            load: what is inside now, shown as gauges; None shows the counts alone.
        """
        return generate_latest(Snapshot(self._registry, load))

    def __call__(self, event: ServerEvent) -> None:
        """Count one event; those that nothing is counted of are let pass."""
        count = self._counts.get(type(event))
        if count is not None:
            count(event)

    def _call_started(self, event: CallStarted) -> None:
        self._started_by(event.method).inc()

    def _call_ended(self, event: CallEnded) -> None:
        self._handled_by(event.method, event.code).inc()
        self._handling_by(event.method).observe(event.seconds)

    def _bytes_moved(self, event: BytesMoved) -> None:
        self._bytes.labels("in").inc(event.received)
        self._bytes.labels("out").inc(event.sent)

    def _request_refused(self, event: RequestRefused) -> None:
        self._refused_by(event.why).inc()

    def _request_stopped(self, event: RequestStopped) -> None:
        self._stopped.labels(event.where, camel_case(event.code)).inc()

    def _queue_left(self, event: QueueLeft) -> None:
        self._waited.labels(event.stage).observe(event.seconds)

    def _engine_ran(self, event: EngineRan) -> None:
        self._rows.labels(event.stage).observe(len(event.requests))
        self._step.labels(event.stage).observe(1000 * event.seconds)

    def _stage_ended(self, event: StageEnded) -> None:
        if event.code == "OK":
            self._stage.labels(event.stage).observe(event.seconds)
        else:
            self._failed.labels(event.stage, camel_case(event.code)).inc()


def make_histogram(
    registry: CollectorRegistry,
    name: str,
    text: str,
    labels: Sequence[str],
    buckets: Sequence[float],
) -> Histogram:
    """A histogram with buckets of our own."""
    return Histogram(name, text, labels, registry=registry, buckets=buckets)


class Snapshot(Collector):
    """What was counted, and the load at one moment, as one collection."""

    def __init__(self, counted: CollectorRegistry, load: ServerLoad | None) -> None:
        self._counted = counted
        self._load = load

    def collect(self) -> Iterable[Metric]:
        """The counts, then the gauges."""
        # One collection, so that counts and gauges are of the same moment.
        yield from self._counted.collect()
        if self._load is not None:
            yield from read_gauges(self._load)


def read_gauges(load: ServerLoad) -> Iterator[Metric]:
    """A load as gauges."""
    for name, text, value in (
        ("cascade_ready", "1 where new requests are taken.", load.ready),
        ("cascade_in_flight", "Requests inside, until their last byte is taken.", load.in_flight),
        ("cascade_running", "Requests inside a component now.", load.running),
        ("cascade_backlog_seconds", "Work left in the requests inside.", load.backlog_s),
        ("cascade_in_flight_bytes", "What the requests inside hold.", load.in_flight_bytes),
        ("cascade_contexts", "Embeddings kept for later requests.", load.contexts),
        ("cascade_context_bytes", "Size of these embeddings.", load.context_bytes),
        ("cascade_results", "Finished requests kept for who asks again.", load.results),
        ("cascade_result_bytes", "Size of these results.", load.result_bytes),
        ("cascade_bundles", "Bundles in memory: 1, and more while old ones finish.", load.bundles),
        ("process_resident_memory_bytes", "Resident memory.", load.resident_bytes),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    info = GaugeMetricFamily(
        "cascade_bundle_info", "The bundle that new requests take.",
        labels=["bundle", "bundle_id", "version"],
    )  # fmt: skip
    info.add_metric([load.bundle_name, load.bundle_id, load.version], 1)
    yield info
    yield from stage_gauges(load)
    yield from replica_gauges(load)


def replica_gauges(load: ServerLoad) -> Iterator[Metric]:
    """What is known per replica; nothing where the engines are in this process."""
    gauges: tuple[tuple[str, str, Callable[[ReplicaLoad], float]], ...] = (
        ("cascade_replica_ready", "1 where it takes work.", lambda r: r.ready),
        ("cascade_replica_jobs", "Requests sent to it and not ended.", lambda r: r.jobs),
        ("cascade_replica_backlog_seconds", "Work left in them.", lambda r: r.backlog_s),
        ("cascade_replica_resident_bytes", "Resident memory.", lambda r: r.resident_bytes),
    )
    for name, text, value in gauges:
        family = GaugeMetricFamily(name, text, labels=["replica"])
        for replica in load.replicas:
            family.add_metric([str(replica.number)], value(replica))
        yield family


def stage_gauges(load: ServerLoad) -> Iterator[Metric]:
    """What is known per component."""
    depth = GaugeMetricFamily("cascade_queue_depth", "Requests waiting.", labels=["stage"])
    serving = GaugeMetricFamily("cascade_stage_serving", "1 where it works.", labels=["stage"])
    info = GaugeMetricFamily(
        "cascade_stage_info", "What runs a component.", labels=["stage", "engine", "precision"]
    )
    for stage in load.stages:
        depth.add_metric([stage.name], stage.queued)
        serving.add_metric([stage.name], stage.works)
        info.add_metric([stage.name, stage.engine, stage.precision], 1)
    yield from (depth, serving, info)


STREAMS = frozenset({"Generate", "Watch"})
BIDIRECTIONAL = frozenset({"ServerReflectionInfo"})


def call_labels(method: str) -> tuple[str, str, str]:
    """`/package.Service/Method` as go-grpc-prometheus labels it: type, service, method."""
    _, service, name = method.split("/")
    kind = "unary"
    if name in STREAMS:
        kind = "server_stream"
    elif name in BIDIRECTIONAL:
        kind = "bidi_stream"
    return kind, service, name


SPELLED = {"OK": "OK", "CANCELLED": "Canceled"}
"""Codes that are not written as their words are."""


def camel_case(code: str) -> str:
    """`DEADLINE_EXCEEDED` as `DeadlineExceeded`: how Go writes status codes."""
    return SPELLED.get(code) or "".join(word.capitalize() for word in code.split("_"))
