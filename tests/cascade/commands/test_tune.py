"""`cascade tune`: real engines in real child processes, and a record that `auto` then follows."""

import argparse
import dataclasses
import os
import signal
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.commands.tune import (
    Effort,
    candidates,
    measure,
    objection,
    relative_rms,
    run,
    run_rounds,
)
from cascade.engines.factory import EngineKind, installed_kinds
from cascade.errors import EngineError, ManifestError
from cascade.families import cost_of
from cascade.precision import Precision
from cascade.system.user_cache import user_cache_folder
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import plan_here
from cascade.tuning.ranking import preferred, request_ms
from cascade.tuning.records import read_tuning, tuning_key
from cascade.tuning.worker import Order, Trial
from tests.support.tiny_bundle import write_tiny_bundle

ORT, FP32 = EngineKind.ORT, Precision.FP32


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Float32 and 8-bit files."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tune") / "bundle", int8=True)


@pytest.fixture
def order(bundle: Bundle) -> Order:
    """ONNX Runtime on the base stage."""
    return Order(
        role="net",
        bundle=str(bundle.folder),
        component="base",
        kind=ORT,
        precision=FP32,
        threads=1,
        batch=2,
        cache="",
    )


def test_tuning_is_followed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Every engine and precision of a component is measured; `auto` then prefers among them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    args = argparse.Namespace(bundle=bundle.folder, threads=1, seconds=0.0, component=["base"])
    assert run(args) == 0
    tuning = read_tuning(user_cache_folder() / "tuning", tuning_key(bundle.bundle_id, 1))
    assert tuning is not None
    base = bundle.manifest.components[1]
    assert [(m.kind, m.precision) for m in tuning.measurements] == candidates(base)
    usable = tuning.usable("base", cost_of(base).runs)
    assert {(ORT, FP32), (ORT, Precision.INT8)} <= usable.keys()
    assert all(m.batch == 2 for m in tuning.measurements)
    by_pair = {(m.kind, m.precision): m for m in tuning.measurements}
    assert by_pair[ORT, FP32].difference == 0.0
    assert 0.001 < by_pair[ORT, Precision.INT8].difference < 0.1
    choice = plan_here(bundle.manifest, parse_engine_options("auto", "auto", 1)).of("base")
    whole = request_ms(bundle.manifest, tuning)
    assert (choice.kind, choice.precision) == preferred(usable, whole)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(candidates(base)) + 2
    assert run(argparse.Namespace(**{**vars(args), "component": ["text_encoder"]})) == 0
    both = read_tuning(user_cache_folder() / "tuning", tuning_key(bundle.bundle_id, 1))
    assert both is not None
    assert {m.component for m in both.measurements} == {"base", "text_encoder"}


def test_an_engine_that_ends_its_process_ends_only_its_trial(order: Order) -> None:
    """It drops out of the rounds with the reason; the others go on."""
    dies, lives = Trial(order), Trial(dataclasses.replace(order, precision=Precision.INT8))
    try:
        os.kill(dies._child.pid, signal.SIGSEGV)
        trials = {(ORT, FP32): dies, (ORT, Precision.INT8): lives}
        times: dict[tuple[EngineKind, Precision], list[float]] = {}
        failed: dict[tuple[EngineKind, Precision], str] = {}
        run_rounds(trials, times, failed, 0.0)
    finally:
        dies.close()
        lives.close()
    assert failed == {(ORT, FP32): "it ended the process (signal 11)"}
    assert len(times[ORT, Precision.INT8]) == 3
    assert (ORT, FP32) not in times


@pytest.mark.parametrize("change", [{"kind": EngineKind.ORT_CUDA}, {"component": "sr64"}])
def test_what_cannot_be_opened_says_why(order: Order, change: dict[str, str]) -> None:
    """The child's own error, not only that there was one."""
    if change.get("kind") in installed_kinds():
        pytest.skip("this build of ONNX Runtime knows CUDA: nothing to refuse")
    with pytest.raises(EngineError, match=r"no CUDAExecutionProvider|no component 'sr64'"):
        Trial(dataclasses.replace(order, **change))  # type: ignore[arg-type]


def test_a_component_that_is_not_there(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused before anything is measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ManifestError, match="no component 'sr64'"):
        run(argparse.Namespace(bundle=bundle.folder, threads=1, seconds=0.0, component=["sr64"]))
    assert not list(tmp_path.rglob("*.json"))


def test_a_broken_engine_is_not_usable(bundle: Bundle, tmp_path: Path) -> None:
    """Far from float32 is failed, however fast; the measure is relative."""
    assert relative_rms([1.0, 1.0], [1.0, 1.0]) == 0.0
    assert relative_rms([2.2, 0.0], [2.0, 0.0]) == pytest.approx(0.1)
    text = bundle.manifest.components[0]
    found = list(measure(bundle, text, Effort(threads=1, seconds=0.0, cache=tmp_path)))
    assert [m.failed for m in found if m.kind is ORT] == [""]


def test_a_precision_without_a_file_has_more_to_prove(bundle: Bundle) -> None:
    """No exporter has seen its pictures; the trial of one step is all there is."""
    base = bundle.manifest.components[1]
    held, made = (ORT, Precision.INT8), (EngineKind.OPENVINO, Precision.BF16)
    assert [objection(base, *held, d) for d in (None, 0.01, 0.2)] == ["", "", ""]
    assert objection(base, *held, 0.3) == "too far from float32: 0.30"
    assert objection(base, *made, 0.01) == ""
    assert objection(base, *made, 0.06) == "too far from float32: 0.06"
    assert "to compare it with" in objection(base, *made, None)
