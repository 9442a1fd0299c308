"""What did a server do over a while? Reads its /metrics again and again and draws a dashboard.

    python -m benchmarks.metrics_plot --address 127.0.0.1:9464 --seconds 60 --picture run.png

Prints what came of the requests; --json keeps every reading. Beside a load of somebody's making;
makes none itself.
"""

import argparse
import http.client
import itertools
import re
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.lib.record import write_record

SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
TIMEOUT_S = 5.0

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Every series at one moment."""

    at_s: float
    """Since the first reading."""
    values: dict[Key, float] = field(default_factory=dict)

    def by(self, name: str, label: str, **only: str) -> dict[str, float]:
        """A series summed by one of its labels, where the others have these values."""
        found: dict[str, float] = {}
        for (series, labels), value in self.values.items():
            given = dict(labels)
            if series == name and all(given.get(k) == v for k, v in only.items()):
                key = given.get(label, "")
                found[key] = found.get(key, 0.0) + value
        return found

    def total(self, name: str, **only: str) -> float:
        """A series summed over all its labels."""
        return sum(self.by(name, "", **only).values())


def parse(text: str, at_s: float) -> Reading:
    """The text format of Prometheus."""
    values: dict[Key, float] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else SAMPLE.fullmatch(line)
        if match is not None:
            name, labels, value = match.groups()
            values[name, tuple(sorted(LABEL.findall(labels or "")))] = float(value)
    return Reading(at_s=at_s, values=values)


def scrape(address: str, at_s: float = 0.0) -> Reading:
    """One reading of a server's operator's port."""
    with closing(http.client.HTTPConnection(address, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", "/metrics")
        return parse(connection.getresponse().read().decode(), at_s)


class Recorder:
    """Reads a server from a thread of its own, until it is stopped; use it as a `with` block."""

    def __init__(self, address: str, interval_s: float = 0.5) -> None:
        self.readings: list[Reading] = []
        self._address = address
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        """Read at equal intervals; a scrape that fails is left out."""
        begun = time.monotonic()
        while True:
            with suppress(OSError):
                self.readings.append(scrape(self._address, time.monotonic() - begun))
            if self._stop.wait(self._interval_s):
                break


Line = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotPanel:
    """One picture of the dashboard: lines by name over time."""

    title: str
    unit: str
    lines: Line


def gauges(readings: list[Reading], name: str, label: str) -> Line:
    """A gauge by one label, at every reading but the first."""
    keys = sorted({key for reading in readings for key in reading.by(name, label)})
    return {key: [r.by(name, label).get(key, 0.0) for r in readings[1:]] for key in keys}


def rates(readings: list[Reading], name: str, label: str, **only: str) -> Line:
    """What a counter grew by a second, by one label, between each reading and the one before."""
    keys = sorted({key for reading in readings for key in reading.by(name, label, **only)})
    lines: Line = {key: [] for key in keys}
    for before, after in itertools.pairwise(readings):
        span_s = after.at_s - before.at_s
        was, is_now = before.by(name, label, **only), after.by(name, label, **only)
        for key in keys:
            lines[key].append((is_now.get(key, 0.0) - was.get(key, 0.0)) / span_s)
    return lines


def means(readings: list[Reading], name: str, label: str) -> Line:
    """The mean of a histogram's new values, by one label; the last one where there are none."""
    sums, counts = rates(readings, f"{name}_sum", label), rates(readings, f"{name}_count", label)
    lines: Line = {}
    for key in sums:
        line: list[float] = []
        for total, count in zip(sums[key], counts[key], strict=True):
            line.append(total / count if count else (line[-1] if line else 0.0))
        lines[key] = line
    return lines


def dashboard(readings: list[Reading]) -> list[PlotPanel]:
    """The panels of a run."""
    inside = {
        "inside": gauges(readings, "cascade_in_flight", "").get("", []),
        "in a component": gauges(readings, "cascade_running", "").get("", []),
    }
    memory = gauges(readings, "process_resident_memory_bytes", "").get("", [])
    calls = rates(readings, "grpc_server_handled_total", "grpc_code", grpc_method="Generate")
    return [
        PlotPanel(title="Requests by outcome", unit="a second", lines=calls),
        PlotPanel(title="In flight", unit="requests", lines=inside),
        PlotPanel(title="Queue depth", unit="requests",
              lines=gauges(readings, "cascade_queue_depth", "stage")),
        PlotPanel(title="Refused by reason", unit="a second",
              lines=rates(readings, "cascade_refused_total", "reason")),
        PlotPanel(title="Ended early, by place", unit="a second",
              lines=rates(readings, "cascade_stopped_total", "where")),
        PlotPanel(title="Rows of a run, mean", unit="rows",
              lines=means(readings, "cascade_batch_rows", "stage")),
        PlotPanel(title="Time of a run, mean", unit="ms",
              lines=means(readings, "cascade_step_milliseconds", "stage")),
        PlotPanel(title="Wait in a queue, mean", unit="s",
              lines=means(readings, "cascade_queue_seconds", "stage")),
        PlotPanel(title="Resident memory", unit="MiB",
              lines={"": [value / (1 << 20) for value in memory]}),
    ]  # fmt: skip


def summary(readings: list[Reading]) -> list[str]:
    """What came of the requests between the first and the last reading."""
    first, last = readings[0], readings[-1]
    lines = [f"{last.at_s - first.at_s:.1f} s, {len(readings)} readings"]
    for title, name, label, only in (
        ("calls", "grpc_server_handled_total", "grpc_code", {"grpc_method": "Generate"}),
        ("refused", "cascade_refused_total", "reason", {}),
        ("ended early", "cascade_stopped_total", "where", {}),
    ):
        was, is_now = first.by(name, label, **only), last.by(name, label, **only)
        grown = {key: value - was.get(key, 0.0) for key, value in is_now.items()}
        told = ", ".join(f"{key} {value:.0f}" for key, value in sorted(grown.items()) if value)
        lines.append(f"{title:12} {told or 'none'}")
    return lines


def write_run(readings: list[Reading], picture: Path | None, record: Path | None) -> None:
    """Draw and keep a run, as far as asked for."""
    panels = dashboard(readings)
    times_s = [reading.at_s for reading in readings[1:]]
    if picture is not None:
        from benchmarks.lib.plots import plot_dashboard  # noqa: PLC0415  matplotlib is an extra

        plot_dashboard([(p.title, p.unit, p.lines) for p in panels], times_s, picture)
    if record is not None:
        write_record(record, {"seconds": times_s, "panels": [asdict(panel) for panel in panels]})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--address", default="127.0.0.1:9464", help="the operator's port")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between readings")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    parser.add_argument("--json", type=Path, help="file for the readings")
    args = parser.parse_args()
    with Recorder(args.address, args.interval) as recorder:
        time.sleep(args.seconds)
    print("\n".join(summary(recorder.readings)))
    write_run(recorder.readings, args.picture, args.json)


if __name__ == "__main__":
    main()
