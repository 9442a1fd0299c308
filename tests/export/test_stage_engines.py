"""The race of a real stage with torch in it, and the plot of what comes out."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import stage_engines
from benchmarks.lib.race_entries import Subject, TorchWay
from benchmarks.lib.torch_ways import gigaflop, open_torch
from benchmarks.stage_engines import stage_inputs
from cascade.bundle.bundle import open_bundle
from tests.support.manifests import encoder_of, stages_of

BUNDLE = Path(__file__).parents[2] / "bundles" / "emoji-1"


@pytest.fixture(scope="module")
def subject() -> Subject:
    """The base stage of the reference cascade with made-up weights."""
    bundle = open_bundle(BUNDLE)
    spec = stages_of(bundle.manifest)[0]
    return Subject(
        stage=spec.name,
        checkpoint=None,
        storage="float32",
        inputs=stage_inputs(spec, encoder_of(bundle.manifest).makes.width),
        threads=1,
    )


def test_every_eager_way_is_the_same_network(subject: Subject) -> None:
    """Layout changes nothing but rounding; bfloat16 stays within its eight bits."""
    truth = open_torch(TorchWay(), subject)()
    span = truth.max() - truth.min()
    last = open_torch(TorchWay(channels_last=True), subject)()
    np.testing.assert_allclose(last, truth, atol=1e-4 * span)
    assert 0 < np.abs(truth).mean() < 100
    bf16 = open_torch(TorchWay(bf16=True, channels_last=True), subject)()
    assert 0 < np.abs(bf16 - truth).max() < 0.1 * span


def test_operations_are_those_of_the_whole_batch(subject: Subject) -> None:
    """Two rows cost what two evaluations of one row cost."""
    two = {name: np.concatenate([value, value]) for name, value in subject.inputs.items()}
    both = replace(subject, inputs=two)
    assert gigaflop(both) == pytest.approx(2 * gigaflop(subject), rel=1e-6)


def test_a_race_from_end_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Torch and ONNX Runtime on the base stage: a table, a record and a plot."""
    pytest.importorskip("matplotlib", reason="the plot needs the extra `plots`")
    shutil.copy(BUNDLE / "base.onnx", tmp_path / "base.onnx")
    arguments = ["--bundle", str(BUNDLE), "--plain", str(tmp_path), "--stages", "base"]
    arguments += ["--rounds", "2", "--threads", "1", "--skip", "compile", "bf16", "OpenVINO"]
    arguments += ["openvino", "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "p.png")]
    monkeypatch.setattr(sys, "argv", ["stage_engines", *arguments])
    stage_engines.main()
    stage = json.loads((tmp_path / "r.json").read_text())["stages"]["base"]
    rows = {row["family"]: row for row in stage["entries"]}
    for family in ("torch eager fp32", "plain export, ONNX Runtime", "ours fp32, ONNX Runtime"):
        assert rows[family]["rounds"] == 2, rows[family]
        assert rows[family]["gflops"] > 0
    assert rows["ours fp32, ONNX Runtime"]["parity"] is None
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
