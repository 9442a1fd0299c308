"""Every benchmark that needs no torch runs end to end on the tiny bundle, so that none rots."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    batch_invariance,
    batching_policy,
    capacity,
    edits,
    footprint,
    host_share,
    kept_stages,
    latency,
    metrics_plot,
    own_pictures,
    pixel_host_share,
    placements,
    precision_pictures,
)
from benchmarks.lib.engine_race import line_up, race
from benchmarks.lib.open_backend import usual_shape
from benchmarks.lib.race_entries import EngineWay, RaceEntry, Subject, engine_contestants
from benchmarks.stage_engines import best_of_each, bundle_graphs, figures_of, stage_inputs
from cascade.bundle.bundle import Bundle
from cascade.engines.kinds import EngineKind
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.tuning.dummy_inputs import default_shapes
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.manifests import stages_of
from tests.support.serving import (
    PROMPT,
    child_server,
    connect,
    request_message,
    running,
    wait_until,
)
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("benchmarks") / "tiny", steps=2)


def run_main(
    module: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch, record: Path
) -> dict[str, object]:
    """A benchmark with these arguments; what it wrote."""
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--json", str(record)])
    module.main()  # type: ignore[attr-defined]
    written: dict[str, object] = json.loads(record.read_text())
    assert "surroundings" in written
    return written


def test_pixel_host_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every part of a picture is counted, of both kinds of parents; so are shared calls."""
    arguments = ["--sizes", "8", "--rounds", "1", "--pictures", "1,3"]
    written = run_main(pixel_host_share, arguments, monkeypatch, tmp_path / "r.json")
    assert [row["passes"] for row in written["rows"]] == [3, 4]
    assert all(0 < row["host_share"] < 1 for row in written["rows"])
    assert [row["pictures"] for row in written["calls"]] == [1, 3, 1, 3]


def test_host_share(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every stage is measured, its shares lie between 0 and 1, and the parts have names."""
    arguments = ["--bundle", str(bundle.folder), "--rounds", "2", "--threads", "1"]
    written = run_main(host_share, arguments, monkeypatch, tmp_path / "r.json")
    stages = written["stages"]
    assert isinstance(stages, dict)
    assert list(stages) == ["base", "sr16", "sr32"]
    for figures in stages.values():
        assert 0 < figures["step_share"] < 1
        assert 0 < figures["stage_share"] < 1
        assert figures["steps"] == 2
        assert "step: thresholding (and a copy)" in figures["parts_ms"]
    assert "step: guidance" in stages["base"]["parts_ms"]
    assert "picture: noise augmentation" in stages["sr32"]["parts_ms"]
    assert "sr32" in capsys.readouterr().out


def test_latency_of_two_precisions(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two sides of one bundle take turns; the same precision gives equal pictures."""
    arguments = ["--bundle", str(bundle.folder), "--runs", "1", "--cut", "4", "--precision", "fp32"]
    arguments += ["--engine", "ort", "--against-precision", "fp32"]
    written = run_main(latency, arguments, monkeypatch, tmp_path / "r.json")
    assert written["psnr_db"] == [99.0]
    sides = written["sides"]
    assert isinstance(sides, list)
    assert [len(side["cold_s"]) for side in sides] == [1, 1]
    assert "PSNR between the two" in capsys.readouterr().out


def test_precisions_against_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reference is equal to itself, 8 bits are not, and a stage alone starts from float32."""
    folder = write_tiny_bundle(tmp_path / "b", steps=2, int8=True).folder
    arguments = ["--bundle", str(folder), "--engine", "ort", "--threads", "1", "--prompts", "2"]
    arguments += ["--options", "fp32", "int8", "sr32=int8,base=fp32,sr16=fp32"]
    written = run_main(precision_pictures, arguments, monkeypatch, tmp_path / "r.json")
    options = written["options"]
    assert isinstance(options, list)
    same, all_int8, last = options
    for stage in ("base", "sr16", "sr32"):
        assert same["alone"][stage] == same["in_a_row"][stage] == [99.0, 99.0]
        assert all(10 < db < 99 for db in all_int8["in_a_row"][stage])
    assert all_int8["alone"]["base"] == all_int8["in_a_row"]["base"]
    assert all_int8["alone"]["sr32"] == last["alone"]["sr32"] == last["in_a_row"]["sr32"]
    assert last["in_a_row"]["sr16"] == [99.0, 99.0]
    assert all_int8["run"]["base"] == "ort int8"
    assert capsys.readouterr().out.count("sr32 ort int8") == 2


def test_batch_invariance(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A table of every stage and case; on ONNX Runtime no sample differs."""
    arguments = ["--bundle", str(bundle.folder), "--engine", "ort", "--precision", "fp32"]
    arguments += ["--threads", "1", "--rows", "3"]
    written = run_main(batch_invariance, arguments, monkeypatch, tmp_path / "r.json")
    stages = written["stages"]
    assert isinstance(stages, dict)
    assert list(stages) == ["base", "sr16", "sr32"]
    for cases in stages.values():
        assert [case["most_rows"] for case in cases.values()] == [2, 3, 3, 3]
        assert all(case["largest"] == 0 for case in cases.values())
    assert "joined in mid-flight" in capsys.readouterr().out


def test_placements(bundle: Bundle) -> None:
    """Each choice of what runs here is one row, and a placement is counted by its hops."""
    assert len(list(placements.halves(4, "AB"))) == 16
    assert list(placements.halves(4, "AB"))[-1] == ["A", "B", "A", "B"]
    request = GenerateRequest(prompt="a cat", seed=3)
    with running(bundle) as server:
        letters = {"here": "c", server.address: "A"}
        trials = [
            placements.measure(bundle, places, request, letters)
            for places in (["here"] * 4, ["here", server.address, "here", server.address])
        ]
    assert [(t.places, t.calls) for t in trials] == [("cccc", 0), ("cAcA", 2)]
    assert len({t.pixels for t in trials}) == 1
    assert "| cAcA | 2 |" in placements.table(trials)


def test_own_pictures(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A row for each picture, and a sheet; a network that sees one pixel far leaves no seam."""
    monkeypatch.setattr(own_pictures, "SIZES", ((24, 12), (40, 20), (1, 1)))
    arguments = ["--bundle", str(bundle.folder), "--threads", "1"]
    arguments += ["--sheet", str(tmp_path / "sheet.webp")]
    written = run_main(own_pictures, arguments, monkeypatch, tmp_path / "r.json")["pictures"]
    assert isinstance(written, dict)
    assert written["text 40x20"]["made"] == [80, 40]
    assert written["text 40x20"]["largest"] == 0
    assert written["noise 1x1"]["runs"] == 2
    assert "slopes 24x12" in capsys.readouterr().out
    assert (tmp_path / "sheet.webp").stat().st_size > 0


def test_kept_stages(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole way, and from each picture that a later stage enlarges; the pixels are checked."""
    arguments = ["--bundle", str(bundle.folder), "--prompt", "a cat", "--rounds", "1"]
    arguments += ["--sheet", str(tmp_path / "sheet.webp")]
    written = run_main(kept_stages, arguments, monkeypatch, tmp_path / "r.json")["medians"]
    assert isinstance(written, dict)
    assert list(written) == ["whole", "from base", "from sr16"]
    assert "from sr16" in capsys.readouterr().out
    assert (tmp_path / "sheet.webp").stat().st_size > 0


def test_edits(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every way, and a sheet; ends of strength, known pixels and kept pictures are checked."""
    arguments = ["--bundle", str(bundle.folder), "--rounds", "1"]
    arguments += ["--sheet", str(tmp_path / "sheet.webp")]
    written = run_main(edits, arguments, monkeypatch, tmp_path / "r.json")
    assert list(written["processor_seconds"])[::5] == ["prompt to picture", "mask, resample 1"]
    assert list(written["wall_seconds"]) == ["server: whole", "server: kept"]
    assert "strength 0.5" in capsys.readouterr().out
    assert (tmp_path / "sheet.webp").stat().st_size > 0


def test_batching_policy(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What issue 5 asks of step joining holds in the simulation, and the plot is drawn."""
    plot = tmp_path / "p.png"
    arguments = ["--bundle", str(bundle.folder), "--requests", "120", "--loads", "0.5", "0.8"]
    arguments += ["--threads", "1"]
    if find_spec("matplotlib") is not None:
        arguments += ["--plot", str(plot)]
    written = run_main(batching_policy, arguments, monkeypatch, tmp_path / "r.json")
    cases = written["cases"]
    assert isinstance(cases, dict)
    assert cases["GPU, gains"]["claims"]["p95_wait_ratio_at_80"] <= 0.5
    assert cases["GPU, cascade"]["claims"]["p95_wait_ratio_at_80"] <= 0.5
    nothing = cases["GPU, gains nothing"]["claims"]
    assert nothing["rows"] == 1
    assert nothing["worst_loss"] <= 0.02
    assert "--plot" not in arguments or plot.stat().st_size > 5000
    assert "step joining against one at a time" in capsys.readouterr().out
    arguments = ["--bundle", str(bundle.folder), "--measured", str(tmp_path / "r.json")]
    arguments += ["--requests", "50", "--loads", "0.8"]
    again = run_main(batching_policy, arguments, monkeypatch, tmp_path / "again.json")
    kept = again["cases"]
    assert isinstance(kept, dict)
    assert kept["this machine"]["timings"] == cases["this machine"]["timings"]


def test_batching_policy_against_a_real_server(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real and simulated waits stand side by side for both ways to run rows."""
    arguments = ["--bundle", str(bundle.folder), "--real", "--loads", "0.5", "--rows", "2"]
    arguments += ["--real-requests", "4", "--threads", "1", "--last-stage", "sr16"]
    written = run_main(batching_policy, arguments, monkeypatch, tmp_path / "r.json")
    real = written["real"]
    assert isinstance(real, dict)
    assert list(real) == ["one by one", "sharing runs"]
    for worlds in real.values():
        assert [s["name"] for s in worlds["timings"]] == ["base", "sr16"]
        assert list(worlds["real"]["loads"]) == list(worlds["simulated"]["loads"]) == ["0.5"]
    assert "simulated" in capsys.readouterr().out


def test_capacity(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plan and a load on one server: rates and bytes of both, every picture right."""
    line = ["--bundle", str(bundle.folder), "--rounds", "1", "--clients", "2", "--seconds", "0.5"]
    written: Any = run_main(capacity, line, monkeypatch, tmp_path / "capacity.json")
    assert set(written["summary"]) == set(capacity.FIGURES)
    (found,) = written["rounds"]
    assert found["load"]["wrong"] == 0
    for figures in found.values():
        assert all(figures[name] > 0 for name in capacity.FIGURES)


def test_psnr_by_hand() -> None:
    """One level off everywhere is 20 log10(255)."""
    a = np.full((4, 4, 3), 7, np.uint8)
    assert latency.psnr_db(a, a + 1) == pytest.approx(20 * np.log10(255))


def test_footprint(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client of the tiny bundle loads no torch."""
    arguments = ["--bundle", str(bundle.folder), "--runs", "1"]
    written = run_main(footprint, arguments, monkeypatch, tmp_path / "r.json")
    assert written["loaded"] == "none"


def test_a_race_of_engines(bundle: Bundle, tmp_path: Path) -> None:
    """Entries in their processes take turns; one that cannot run is named, and ends nothing."""
    spec = stages_of(bundle.manifest)[1]
    graphs = bundle_graphs(bundle, spec, tmp_path)
    inputs = stage_inputs(spec, WIDTH)
    subject = Subject(stage=spec.name, checkpoint=None, storage="float32", inputs=inputs, threads=1)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    way = EngineWay(graph=broken, kind=EngineKind.ORT, precision=Precision.FP32)
    field = [
        one
        for one in engine_contestants(graphs[Precision.FP32], graphs, same_weights=True)
        if "ONNX Runtime" in one.name
    ]
    field.append(RaceEntry(family="broken", setting="", way=way))
    said: list[str] = []
    racers = line_up(field, subject, 60.0, said.append)
    race(racers, 2, 60.0)
    truth = racers[0].output
    figures = [figures_of(racer, truth, 1.0, 1.0) for racer in racers]
    rows = {row["family"]: row for row in best_of_each(figures)}
    assert "EngineError" in rows.pop("broken")["problem"]
    assert set(rows) == {"plain export, ONNX Runtime", "ours fp32, ONNX Runtime"}
    for row in rows.values():
        assert row["rounds"] == 2
        assert row["parity"] == {"max_abs": 0.0, "of_range": 0.0, "psnr_db": 200.0}
    assert all(not racer.process.is_alive() for racer in racers)
    assert len(said) == 3


def test_engines_that_race_know_the_shapes_that_they_know_in_the_product(bundle: Bundle) -> None:
    """Batch and size are fixed, texts are not."""
    spec = stages_of(bundle.manifest)[1]
    inputs = stage_inputs(spec, WIDTH)
    found = {name: usual_shape(name, value) for name, value in inputs.items()}
    assert found == {name: shape for name, shape in default_shapes(spec).items() if name in inputs}


def test_the_best_setting_stands_for_its_family() -> None:
    """The fastest of several, whatever the order; a family that never ran keeps its problem."""
    rows = best_of_each(
        [
            {"family": "a", "setting": "x", "problem": "no"},
            {"family": "a", "setting": "y", "median_s": 2.0},
            {"family": "a", "setting": "z", "median_s": 1.0},
            {"family": "b", "setting": "x", "problem": "no"},
        ]
    )
    assert [(row["family"], row["setting"]) for row in rows] == [("a", "z"), ("b", "x")]


def test_metrics_plot(bundle: Bundle, tmp_path: Path) -> None:
    """A run under load is read from the operator's port, summed up and drawn."""
    options = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--threads", "1")
    with child_server(bundle.folder, *options) as (child, line):
        port = json.loads(line())["address"]
        with (
            connect(json.loads(line())["address"]) as caller,
            metrics_plot.Recorder(port, interval_s=0.05) as recorder,
        ):
            wait_until(lambda: len(recorder.readings) > 1)
            for n in range(3):
                start = pb.PromptStart(prompt=PROMPT)
                list(caller.generate(request_message(bundle, request_id=f"r{n}", prompt=start)))
            before = len(recorder.readings)
            wait_until(lambda: len(recorder.readings) > before + 1)
        child.terminate()
        assert child.wait(timeout=120) == 0
    readings = recorder.readings
    assert readings[-1].total("grpc_server_handled_total", grpc_method="Generate") == 3
    assert "calls        OK 3" in metrics_plot.summary(readings)
    panels = {panel.title: panel.lines for panel in metrics_plot.dashboard(readings)}
    assert set(panels["Queue depth"]) == {"text_encoder", "base", "sr16", "sr32"}
    assert max(panels["Rows of a run, mean"]["sr32"]) == 1
    lengths = {len(line) for lines in panels.values() for line in lines.values()}
    assert lengths == {len(readings) - 1}
    pytest.importorskip("matplotlib", reason="the extra plots is not installed: no picture here")
    metrics_plot.write_run(readings, tmp_path / "run.png", tmp_path / "run.json")
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "run.json").read_text())["panels"]) == 9
