"""`cascade plan --capacity`: what a replica can do, from what its runs took."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.engines.kinds import EngineKind
from cascade.precision import Precision
from cascade.system.cores import usable_cores
from cascade.tuning.records import Measurement, Tuning, tuning_key, write_tuning
from runtime_client import Client
from runtime_client.planning.capacity import CapacityPlan, ReplicaComponent, row_s
from tests.support.serving import RunningServer, running


def component(**changes: Any) -> ReplicaComponent:
    """A component of two roles: four runs of 10 ms, and one of 40."""
    given: dict[str, Any] = {
        "name": "base", "engine": "ort", "precision": "fp32", "source": "announced",
        "runs": {"net": 4, "start": 1}, "run_s": {"net": {1: 0.01, 2: 0.012}, "start": {1: 0.04}},
    }  # fmt: skip
    return ReplicaComponent(**(given | changes))


def plan(*components: ReplicaComponent, **changes: Any) -> CapacityPlan:
    """A replica of those components."""
    given: dict[str, Any] = {
        "replica": "a:1", "device": "CPU", "cores": 2, "memory_bytes": 1, "memory_from": "measured",
        "bytes_up": 1000, "bytes_down": 1_250_000, "bytes_from": "measured",
    }  # fmt: skip
    return CapacityPlan(components=components, **(given | changes))


def test_a_picture_takes_all_its_runs() -> None:
    """Every role's, of every component, and the host's work beside them."""
    one = plan(component(host_s=0.02), component())
    assert one.components[0].alone_s == pytest.approx(0.08)
    assert one.alone_s == pytest.approx(0.18)


def test_shared_runs_cost_less() -> None:
    """Only as far as rows may share, and never fewer rows than a request has."""
    assert component(max_rows=2).shared_s == pytest.approx(4 * 0.006 + 0.04)
    assert component(max_rows=1).shared_s == pytest.approx(0.08)
    # Guidance asks with and without the text: the two rows of one request.
    assert component(rows=2, runs={"net": 4}).alone_s == pytest.approx(4 * 0.012)


def test_a_size_that_was_never_run() -> None:
    """The nearest one stands in, by the row."""
    assert row_s({2: 0.012}, 1, 1) == pytest.approx(0.006)
    assert row_s({1: 0.01, 4: 0.02}, 2, 4) == pytest.approx(0.005)


def test_cores_are_shared_and_cards_are_not() -> None:
    """On a processor the host's work of a picture takes a core from the engine of another."""
    parts = component(host_s=0.04)
    assert plan(parts).pictures_per_s == pytest.approx(1 / (0.08 + 0.04 / 2))
    card = plan(parts, device="a card")
    assert card.pictures_per_s == pytest.approx(1 / 0.08)
    slow_host = plan(component(host_s=0.4), device="a card")
    assert slow_host.pictures_per_s == pytest.approx(1 / 0.2)


def test_a_fleet_has_room() -> None:
    """No replica and no line is fuller than 70 %; one of each is the least."""
    one = plan(component(host_s=0.04))
    assert one.pictures_per_s == pytest.approx(10)
    # A line of 1 Gbit/s carries a hundred such pictures.
    told = one.as_object((0.1, 7.1, 71.0))["fleets"]
    assert [(f["replicas"], f["lines_of_1_gbit"]) for f in told] == [(1, 1), (2, 1), (11, 2)]


@pytest.fixture(scope="module")
def host(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of every component that has made a picture."""
    with running(bundle) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learned stays within a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def told(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command prints as JSON."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_server_says_what_its_runs_took(
    bundle: Bundle, host: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before its first runs; then the components behind the cut, memory and bytes."""
    command = ["plan", "a cat", "--capacity", "--bundle", bundle.folder, "--server", host.address]
    assert main([*map(str, command), "--cut", "0"]) == 2
    assert "has not measured text_encoder yet" in capsys.readouterr().err
    with Client(bundle, server=host.address, cut=0) as client:
        client.generate("a cat")
    plan = told(capsys, *command)
    assert [spec["name"] for spec in plan["components"]] == ["sr16", "sr32"]
    assert plan["cores"] == usable_cores()
    assert (plan["memory_from"], plan["bytes_from"]) == ("measured", "guess")
    assert plan["memory_bytes"] % (16 << 20) == 0
    engine_ms = sum(spec["shared_ms"] for spec in plan["components"])
    host_ms = sum(spec["host_ms"] for spec in plan["components"])
    each_ms = engine_ms + host_ms / plan["cores"]
    assert plan["pictures_per_s"] == pytest.approx(1000 / each_ms, rel=0.01)
    whole = told(capsys, *command, "--cut", 0)
    assert whole["alone_ms"] > plan["alone_ms"]
    assert whole["bytes_up"] < plan["bytes_up"]
    assert main([*map(str, command)]) == 0
    out = capsys.readouterr().out
    assert "pictures per second: " in out
    assert "replicas below 70 %" in out


def measured(bundle: Bundle, step_ms: float) -> Tuning:
    """As if `cascade tune` had found that every run takes so long."""
    measurements = tuple(
        Measurement(
            component=spec.name, kind=EngineKind.ORT, precision=Precision.FP32, batch=1,
            step_ms=step_ms, p10_ms=step_ms, p90_ms=step_ms, load_s=0.1, difference=0.0, role=role,
        )
        for spec in bundle.manifest.components
        for role in spec.graphs
    )  # fmt: skip
    return Tuning(key=tuning_key(bundle.bundle_id, 0), measurements=measurements)


def test_this_machine_as_it_was_tuned(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a server: the records of `cascade tune`, or how to make them."""
    command = ["plan", "a cat", "--capacity", "--bundle", bundle.folder]
    assert main([*map(str, command)]) == 2
    assert "run `cascade tune`" in capsys.readouterr().err
    write_tuning(tmp_path / "edge-cascade" / "tuning", measured(bundle, step_ms=10))
    plan = told(capsys, *command)
    assert (plan["replica"], plan["memory_from"]) == ("this machine", "estimated")
    for spec in plan["components"]:
        assert spec["from"] == "tuned"
        assert spec["alone_ms"] == 10 * sum(spec["runs"].values())
    assert main([*map(str, command), "--cut", "4"]) == 2
    assert "cut: expected 0 to 3" in capsys.readouterr().err


def test_a_cut_belongs_to_a_capacity(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan of placements looks at every cut."""
    assert main(["plan", "a cat", "--bundle", str(bundle.folder), "--cut", "1"]) == 2
    assert "cut: it belongs to --capacity" in capsys.readouterr().err
    command = ["plan", "a cat", "--bundle", str(bundle.folder), "--capacity"]
    for flags in ("--within 1s", "--least-bytes", "--what-if rtt=1ms", "--cuts-only"):
        assert main([*command, *flags.split()]) == 2
        assert f"{flags.split()[0][2:]}: it chooses a placement" in capsys.readouterr().err
