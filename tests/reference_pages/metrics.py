"""Every metric that a server exposes, read from what it registers.

Knows Prometheus's families; the sample load exists only to have every gauge.
"""

from prometheus_client.core import Metric

from runtime_server.telemetry.load import ServerLoad, StageLoad
from runtime_server.telemetry.metrics import PrometheusMetrics, Snapshot, read_gauges
from tests.reference_pages.markdown import table

STAGE = StageLoad(name="base", engine="ort", precision="fp32", queued=0, works=True)
UNITS = (("_seconds", "seconds"), ("_milliseconds", "milliseconds"), ("_bytes", "bytes"),
         ("_rows", "rows"))  # fmt: skip


def families() -> list[Metric]:
    """Everything of one scrape, of a server that has done nothing."""
    counted = PrometheusMetrics()
    load = ServerLoad(stages=(STAGE,), resident_bytes=0)
    return [*Snapshot(counted._registry, None).collect(), *read_gauges(load)]


def labels_of(counted: PrometheusMetrics) -> dict[str, tuple[str, ...]]:
    """Labels of each counter and histogram, which a family without samples does not tell."""
    metrics = counted._registry._collector_to_names
    return {each._name: each._labelnames for each in metrics}


def unit_of(name: str) -> str:
    """What a value counts."""
    return next((unit for ending, unit in UNITS if name.endswith(ending)), "count")


def metrics() -> str:
    """The table."""
    labels = labels_of(PrometheusMetrics())
    rows = []
    for family in families():
        suffix = {"counter": "_total"}.get(family.type, "")
        known = labels.get(family.name, tuple(family.samples[0].labels if family.samples else ()))
        rows.append((
            f"`{family.name}{suffix}`", family.type, ", ".join(f"`{name}`" for name in known),
            unit_of(family.name), family.documentation,
        ))  # fmt: skip
    return table(("metric", "type", "labels", "unit", "meaning"), sorted(rows))
