"""What happened, as Prometheus counters and histograms in a registry of their own.

The names of calls are those of go-grpc-prometheus, so that its dashboards fit. Label values come
from fixed sets: a caller can make no new series. The one file that knows prometheus_client.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from cascade.errors import MissingExtra
from runtime_server.telemetry.load import Load
from runtime_server.telemetry.observer import Failure, Observer, Place, Refusal

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


class PrometheusMetrics(Observer):
    """Counts what it is told; its registry also shows the present load when asked."""

    content_type: str = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._registry = CollectorRegistry()
        call = ["grpc_type", "grpc_service", "grpc_method"]
        self._started = self._counter("grpc_server_started", "Calls that arrived.", call)
        self._handled = self._counter(
            "grpc_server_handled", "Calls that ended, by status code.", [*call, "grpc_code"]
        )
        self._handling = self._histogram(
            "grpc_server_handling_seconds", "From arrival to end of a call.", call, CALL_SECONDS
        )
        self._bytes = self._counter(
            "cascade_message_bytes", "Payload of calls, compression left out.", ["direction"]
        )
        self._refused = self._counter(
            "cascade_refused", "Requests turned away before any work.", ["reason"]
        )
        self._stopped = self._counter(
            "cascade_stopped", "Requests that ended early, by where they were.", ["where", "code"]
        )
        self._entered = self._counter("cascade_requests", "Requests taken in.", [])
        self._waited = self._histogram(
            "cascade_queue_seconds", "Time in a component's queue.", ["stage"], CALL_SECONDS
        )
        self._rows = self._histogram(
            "cascade_batch_rows", "Requests that shared one run.", ["stage"], BATCH_ROWS
        )
        self._step = self._histogram(
            "cascade_step_milliseconds", "One run of an engine.", ["stage"], STEP_MILLISECONDS
        )
        self._stage = self._histogram(
            "cascade_stage_seconds", "A component's work for one request.", ["stage"], CALL_SECONDS
        )
        self._failed = self._counter(
            "cascade_stage_failures", "Components that began and did not end.", ["stage", "code"]
        )
        self._reloads = self._counter("cascade_reloads", "Reloads of the bundle.", ["outcome"])
        # Finding a series by its labels costs more than counting: each is looked up once.
        self._started_by = cache(lambda method: self._started.labels(*call_labels(method)))
        self._handled_by = cache(
            lambda method, code: self._handled.labels(*call_labels(method), camel_case(code))
        )
        self._handling_by = cache(lambda method: self._handling.labels(*call_labels(method)))
        self._refused_by = cache(self._refused.labels)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def show(self, load: Callable[[], Load]) -> None:
        """Also show what is inside now, asked for at every scrape."""
        self._registry.register(LoadCollector(load))

    def exposition(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self._registry)

    def call_started(self, method: str) -> None:
        """Count it."""
        self._started_by(method).inc()

    def call_handled(self, method: str, code: str, seconds: float) -> None:
        """Count and time it."""
        self._handled_by(method, code).inc()
        self._handling_by(method).observe(seconds)

    def bytes_moved(self, received: int, sent: int) -> None:
        """Count them."""
        self._bytes.labels("in").inc(received)
        self._bytes.labels("out").inc(sent)

    def refused(self, why: Refusal) -> None:
        """Count it."""
        self._refused_by(why).inc()

    def entered(self, request_id: str) -> None:
        """Count it; the id would be a series of its own."""
        del request_id
        self._entered.inc()

    def waited(self, stage: str, seconds: float) -> None:
        """Time it."""
        self._waited.labels(stage).observe(seconds)

    def stepped(self, stage: str, request_ids: Sequence[str], begun: float, seconds: float) -> None:
        """Time it, and note how many shared it."""
        del begun
        self._rows.labels(stage).observe(len(request_ids))
        self._step.labels(stage).observe(1000 * seconds)

    def stage_finished(self, stage: str, request_id: str, begun: float, seconds: float) -> None:
        """Time it."""
        del request_id, begun
        self._stage.labels(stage).observe(seconds)

    def stage_failed(self, stage: str, request_id: str, begun: float, failure: Failure) -> None:
        """Count it."""
        del request_id, begun
        self._failed.labels(stage, camel_case(failure.code)).inc()

    def stopped(self, where: Place, code: str) -> None:
        """Count it."""
        self._stopped.labels(where, camel_case(code)).inc()

    def reloaded(self, outcome: str) -> None:
        """Count it."""
        self._reloads.labels(outcome).inc()


class LoadCollector(Collector):
    """The present load as gauges."""

    def __init__(self, load: Callable[[], Load]) -> None:
        self._load = load

    def collect(self) -> Iterable[Metric]:
        """Every gauge, from one look."""
        return read_gauges(self._load())


def read_gauges(load: Load) -> Iterator[Metric]:
    """A load as gauges."""
    for name, text, value in (
        ("cascade_ready", "1 where new requests are taken.", load.ready),
        ("cascade_in_flight", "Requests inside, until their last byte is taken.", load.in_flight),
        ("cascade_running", "Requests inside a component now.", load.running),
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


def stage_gauges(load: Load) -> Iterator[Metric]:
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
