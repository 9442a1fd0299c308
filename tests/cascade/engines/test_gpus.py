"""Engines of GPUs: which `auto` takes where nobody measured, on machines that are not this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.cuda_driver import find_device
from cascade.engines.gpu_trial import NEGATE, run_once
from cascade.engines.gpus import (
    GPU_KINDS,
    NO_GPUS,
    Gpus,
    device_of,
    find_gpus,
    gpus_here,
    ranked,
    trial,
)
from cascade.engines.kinds import EngineKind, installed_kinds
from cascade.errors import EngineError, MissingExtra
from cascade.precision import Precision
from cascade.system.processor import Processor
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import EnginePlan, Machine, make_plan
from cascade.tuning.records import FORMAT, Measurement, Tuning, TuningKey
from tests.support.tiny_bundle import write_tiny_bundle

ORT, OPENVINO = EngineKind.ORT, EngineKind.OPENVINO
CUDA, ORT_TRT, TRT = EngineKind.ORT_CUDA, EngineKind.ORT_TENSORRT, EngineKind.TENSORRT
EXTRA_GPU = (ORT, CUDA, ORT_TRT, TRT)
"""What the extra `gpu` installs."""
VNNI = Processor(model="new", flags=("avx512_vnni",), cores=2)
CARD = "NVIDIA L4"
AUTO = parse_engine_options("auto", "auto")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stages with an 8-bit file."""
    return write_tiny_bundle(tmp_path_factory.mktemp("gpus") / "bundle", int8=True)


def plan_with(bundle: Bundle, gpus: Gpus, tuning: Tuning | None = None) -> EnginePlan:
    """The plan of a machine with the extra `gpu`."""
    return make_plan(bundle.manifest, AUTO, Machine(EXTRA_GPU, VNNI, tuning, gpus))


def kinds(plan: EnginePlan) -> set[EngineKind]:
    """The engines that a plan takes."""
    return {choice.kind for choice in plan.choices.values()}


def test_a_card_whose_provider_runs_is_taken(bundle: Bundle) -> None:
    """In float32: 8-bit files are for the instructions of the processor, which computes nothing."""
    plan = plan_with(bundle, Gpus(CARD, (CUDA,)))
    assert kinds(plan) == {CUDA}
    assert {choice.precision for choice in plan.choices.values()} == {Precision.FP32}
    assert plan.device("base") == CARD
    assert plan.warning.startswith("nobody measured which engine is fastest here for text_encoder")
    assert "cascade tune" in plan.warning


@pytest.mark.parametrize(
    "gpus",
    [
        Gpus(refused=dict.fromkeys(GPU_KINDS, "there is no CUDA device")),
        Gpus(CARD, (), {CUDA: "libcudnn.so.9 is missing", ORT_TRT: "no", TRT: "no"}),
    ],
    ids=["no card", "no libraries"],
)
def test_an_extra_that_cannot_be_used_is_named(bundle: Bundle, gpus: Gpus) -> None:
    """The processor computes, and the warning says of which engine and why it is not another."""
    plan = plan_with(bundle, gpus)
    assert kinds(plan) == {ORT}
    assert plan.device("base") == "CPU"
    for kind, why in gpus.refused.items():
        assert f"{kind} is installed and not used: {why}" in plan.warning


def test_the_next_engine_is_taken_where_the_first_does_not_run(bundle: Bundle) -> None:
    """One that was refused is passed over; one asked for by name is not replaced."""
    gpus = Gpus(CARD, (ORT_TRT,), {CUDA: "of another version"})
    assert kinds(plan_with(bundle, gpus)) == {ORT_TRT}
    asked = make_plan(
        bundle.manifest,
        parse_engine_options("ort-cuda", "auto"),
        Machine(EXTRA_GPU, VNNI, None, gpus),
    )
    assert kinds(asked) == {CUDA}
    assert asked.warning == ""


def tuned(*rows: tuple[str, EngineKind, float]) -> Tuning:
    """A record of those components, engines and milliseconds, in float32."""
    key = TuningKey(format=FORMAT, bundle_id="b", processor=VNNI, versions={}, threads=0)
    found = tuple(
        Measurement(
            component=name, kind=kind, precision=Precision.FP32, batch=1, step_ms=ms, p10_ms=ms,
            p90_ms=ms, load_s=0.1, difference=0.0,
        )
        for name, kind, ms in rows
    )  # fmt: skip
    return Tuning(key=key, measurements=found)


def test_what_was_measured_is_taken_and_not_warned_of(bundle: Bundle) -> None:
    """The warning names the components without a measurement, and no others."""
    tuning = tuned(("base", ORT, 1.0), ("base", CUDA, 5.0), ("sr16", CUDA, 1.0), ("sr16", ORT, 9.0))
    plan = plan_with(bundle, Gpus(CARD, GPU_KINDS), tuning)
    assert (plan.of("base").kind, plan.of("sr16").kind) == (ORT, CUDA)
    assert plan.untuned == ("text_encoder", "sr32")


def test_a_measurement_of_a_card_that_is_gone_counts_for_nothing(bundle: Bundle) -> None:
    """The next best is taken; where only the card was measured, that is said."""
    tuning = tuned(("base", CUDA, 1.0), ("base", ORT, 9.0), ("sr16", CUDA, 1.0))
    gone = Gpus(refused=dict.fromkeys(GPU_KINDS, "there is no CUDA device"))
    plan = plan_with(bundle, gone, tuning)
    assert kinds(plan) == {ORT}
    assert "base" not in plan.untuned
    assert "sr16" in plan.untuned


def test_one_engine_and_one_precision_leave_nothing_to_measure(tmp_path: Path) -> None:
    """No warning that could not be acted on: a light client with a float32 bundle."""
    manifest = write_tiny_bundle(tmp_path / "plain").manifest
    plan = make_plan(manifest, AUTO, Machine((ORT,), VNNI, None))
    assert plan.warning == ""


def test_the_order() -> None:
    """Usable ones of GPUs, processors', unusable ones; without a card nothing moves up."""
    assert ranked((*EXTRA_GPU, OPENVINO), Gpus(CARD, (ORT_TRT,))) == (
        ORT_TRT, ORT, OPENVINO, CUDA, TRT,
    )  # fmt: skip
    assert ranked((ORT, OPENVINO), NO_GPUS) == (ORT, OPENVINO)
    assert [device_of(kind, Gpus(CARD)) for kind in (ORT, OPENVINO, CUDA)] == ["CPU", "CPU", CARD]


def test_trials_end_with_the_first_that_runs() -> None:
    """A trial takes seconds: none without a card, none after a success, none after `tune`."""
    asked: list[EngineKind] = []

    def attempt(kind: EngineKind) -> str:
        asked.append(kind)
        return "" if kind is ORT_TRT else "broken"

    assert find_gpus(GPU_KINDS, "", attempt).refused.keys() == set(GPU_KINDS)
    assert find_gpus(GPU_KINDS, CARD, None) == Gpus(CARD, GPU_KINDS)
    assert asked == []
    assert find_gpus(GPU_KINDS, CARD, attempt) == Gpus(CARD, (ORT_TRT,), {CUDA: "broken"})
    assert asked == [CUDA, ORT_TRT]


def test_the_trial_runs_its_graph() -> None:
    """With the engine of processors, in this process and as the command of its own."""
    run_once(ORT)
    command = [sys.executable, "-m", "cascade.engines.gpu_trial", "ort"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert len(NEGATE) == 62


def test_this_machine_is_looked_at() -> None:
    """A provider that is not in this build is refused by a true trial, with the reason."""
    found = gpus_here(installed_kinds(), measured=False)
    assert (found.card != "") == (
        find_device() is not None and bool((*found.usable, *found.refused))
    )
    assert gpus_here((ORT, OPENVINO), measured=False) == NO_GPUS
    if CUDA not in installed_kinds():
        assert "no CUDAExecutionProvider" in trial(CUDA)
        with pytest.raises((EngineError, MissingExtra)):
            run_once(CUDA)
