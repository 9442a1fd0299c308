"""A run from its phases to its record, with a system of the test's own."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.arrivals import Arrivals
from bench.audit import PictureCheck, repeat_audit
from bench.cli import measure_and_write
from bench.load import pixel_hash
from bench.record import read_record
from bench.run import Benchmark, BenchmarkRun, RunPlan
from bench.table import as_text
from bench.workload import WorkItem
from cascade.errors import InvalidRequest, TransportError
from tests.bench.fake_system import WORKLOAD, FakeSystem

PLAN = RunPlan(requests=5, warm_up=1, cold=1, repeats=2, check=0)


def benchmark(
    work: Callable[[WorkItem], None] = lambda _: None, plan: RunPlan = PLAN
) -> BenchmarkRun:
    """A run of the fake system."""
    return BenchmarkRun(
        Benchmark(
            open_system=lambda: FakeSystem(work),
            workload=WORKLOAD,
            plan=plan,
            local=None,
            say=lambda _: None,
        )
    )


def fails_at(seed: int, error: BaseException) -> Callable[[WorkItem], None]:
    """Work that ends so at one item."""

    def work(item: WorkItem) -> None:
        if item.seed == seed:
            raise error

    return work


def test_a_run_fills_its_record() -> None:
    """Every phase, and what was sent in the window; a table can be made of it."""
    run = benchmark(
        plan=RunPlan(requests=5, load="open", arrivals=Arrivals(rate_per_s=1e4), check=0)
    )
    run.run()
    record = run.record
    assert record["complete"]
    assert list(record["phases"]) == ["cold", "warm_up", "unloaded", "measured", "repeats"]
    measured = record["phases"]["measured"]
    assert measured["samples"]["number"] == [0, 1, 2, 3, 4]
    assert measured["traffic"]["bytes_up"]["median"] == 10
    assert record["load"]["requests"] == 5
    assert len(record["load"]["schedule_sha256"]) == 64
    assert record["degraded"] is measured["send_lag"]["degraded"]
    assert "finished         5 of 5" in as_text(record)
    json.dumps(record, allow_nan=False)


def test_an_interrupted_run_writes_what_there_is(tmp_path: Path) -> None:
    """Ctrl-C in the fourth request of the window: three are in the file."""
    path = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        measure_and_write(benchmark(fails_at(3, KeyboardInterrupt())), path)
    record = read_record(path)
    assert not record["complete"]
    assert record["ended_by"].startswith("INTERRUPTED")
    assert record["phases"]["measured"]["finished"] == 3
    assert "repeats" not in record["phases"]
    assert "finished         3 of 3" in as_text(record)


def test_a_system_that_cannot_be_opened_is_a_record_too(tmp_path: Path) -> None:
    """With the reason, and nothing measured."""

    def open_system() -> FakeSystem:
        raise TransportError("no server")

    plain = Benchmark(
        open_system=open_system, workload=WORKLOAD, plan=PLAN, local=None, say=lambda _: None
    )
    path = tmp_path / "record.json"
    with pytest.raises(TransportError):
        measure_and_write(BenchmarkRun(plain), path)
    record = read_record(path)
    assert record["ended_by"] == "TRANSPORT_ERROR: no server"
    assert as_text(record) == "nothing was measured"


def test_a_compressed_record_is_the_same_record(tmp_path: Path) -> None:
    """Gzip is told by its first bytes, whatever the name."""
    written = {"format": "cascade-bench/1", "complete": True}
    path = tmp_path / "record.json.gz"
    path.write_bytes(gzip.compress(json.dumps(written).encode()))
    assert read_record(path) == written


@pytest.mark.parametrize("damage", ["cut off", "changed", "too large"])
def test_a_damaged_compressed_record_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    """Half of a file, a byte in the middle, and small files that unpack to very large ones."""
    path = tmp_path / "record.json.gz"
    whole = bytearray(gzip.compress(json.dumps({"format": "cascade-bench/1"}).encode()))
    if damage == "too large":
        whole = bytearray(gzip.compress(bytes((64 << 20) + 1), compresslevel=1))
    elif damage == "changed":
        whole[-6] ^= 1
    path.write_bytes(bytes(whole[: len(whole) // 2] if damage == "cut off" else whole))
    with pytest.raises(InvalidRequest, match=r"record: record\.json\.gz"):
        read_record(path)


def test_failed_requests_are_counted_and_end_nothing() -> None:
    """A run of failures alone has figures without a number."""
    run = benchmark(fails_at(2, TransportError("gone")))
    run.run()
    assert run.record["complete"]
    assert run.record["phases"]["measured"]["errors"] == {"TRANSPORT_ERROR": 1}


@pytest.mark.parametrize(
    ("repeated", "caching", "verdict"),
    [([0.95], (), "True"), ([0.5], (), "False"), ([0.5], ("a",), "True"), ([], (), "None")],
)
def test_a_repeat_may_be_a_tenth_faster_unless_caching_is_said(
    repeated: list[float], caching: tuple[str, ...], verdict: str
) -> None:
    """As of medians; nothing where nothing was repeated."""
    assert str(repeat_audit([1.0, 1.0, 1.0], repeated, caching)["passed"]) == verdict


def test_pictures_are_held_against_the_truth() -> None:
    """Equal, different, and those of which nothing is known."""
    check = PictureCheck(WORKLOAD)
    run = benchmark()
    system = FakeSystem()
    images: dict[str, object] = {}
    system.run(WORKLOAD.item(1), images.__setitem__)
    right = {stage: pixel_hash(image) for stage, image in images.items()}  # type: ignore[arg-type]
    check.truth = {1: right, 2: {**right, "small": "0"}}
    run._check = check
    run.run()
    report = run.record["phases"]["measured"]["pictures"]
    # Of the second item neither picture is that of the first.
    assert report == {"equal": 2, "different": 2, "unchecked": 6}


@pytest.mark.parametrize("text", ["", "[]", '{"format": "cascade-bench/0"}', "{"])
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """By its format."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match="record"):
        read_record(path)
