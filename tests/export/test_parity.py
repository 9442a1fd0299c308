"""Parity: what is the same passes with its true measures, what is not is refused."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.events import Event, StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from export.adapters.reference_cases import TIMES, low_resolution, stage_cases
from export.parity import TOLERANCE_ABS, compare_cascades, compare_engines
from export.weights.rounding import Storage, release
from stages.evaluation.sampling import graph_inputs
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.efficient_unet import EfficientUNet
from tests.support.tiny_training import TINY_BASE, TINY_SR, stirred, tiny_dataset

CASES = [{"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 12) * n} for n in (1, 2)]


class Shifted:
    """An engine that returns its input plus an offset, or something else where `spoil` says."""

    def __init__(self, offset: float = 0.0, spoil: float | None = None) -> None:
        self.offset = offset
        self.spoil = spoil
        self.runs = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The input, shifted."""
        self.runs += 1
        value = (inputs["x"] + np.float32(self.offset)).astype(np.float32)
        if self.spoil is not None:
            value[0, 3] = self.spoil
        return {"y": value}

    def terminate(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to release."""


class Transposed(Shifted):
    """An engine whose answer has another shape."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The input, turned."""
        return {"y": super().run(inputs)["y"].T}


class Painter:
    """A stage that paints its level, and one sample of another one."""

    def __init__(self, name: str, level: int, off: int = 0) -> None:
        self.name = name
        self.level = level
        self.off = off

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """A picture of 10 x 10."""
        assert request.prompt is not None
        assert handoff.prompt == request.prompt
        image = np.full((10, 10, 3), self.level, np.uint8)
        image[0, 0, 0] += self.off * (request.seed == 1)
        yield StageFinished(self.name, Handoff(prompt=handoff.prompt, image=image))

    def terminate(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to release."""


def test_identical_engines_pass() -> None:
    """No error, and the measures say so: 0, and the PSNR at which it is capped."""
    original = Shifted()
    record = compare_engines(original, Shifted(), CASES, "y")
    assert (record.max_abs_error, original.runs) == (0.0, 2)
    assert record.tolerance_abs == TOLERANCE_ABS
    assert record.psnr_db == pytest.approx(10 * np.log10(4.0**2 / 1e-20), abs=0.06)


def test_measures_in_closed_form() -> None:
    """A constant offset d: the error is d, the PSNR 20 log10(range / d), range twice the peak."""
    record = compare_engines(Shifted(), Shifted(2**-10), CASES, "y")
    assert record.max_abs_error == pytest.approx(2**-10, rel=1e-3)
    assert record.psnr_db == pytest.approx(20 * np.log10(4 * 2**10), abs=0.06)


@pytest.mark.parametrize("offset", [1.1 * TOLERANCE_ABS, -1.1 * TOLERANCE_ABS, 1.0])
def test_a_perturbed_engine_is_refused(offset: float) -> None:
    """Anything beyond the tolerance is an error that states both numbers; a little less is not."""
    with pytest.raises(ParityError, match=f"over the tolerance {TOLERANCE_ABS:.0e}"):
        compare_engines(Shifted(), Shifted(offset), CASES, "y")
    compare_engines(Shifted(), Shifted(0.9 * TOLERANCE_ABS), CASES, "y")


def test_one_wrong_number_is_enough() -> None:
    """The largest error counts, not the mean."""
    with pytest.raises(ParityError, match="max abs error"):
        compare_engines(Shifted(), Shifted(spoil=9.0), CASES, "y")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    """One NaN or infinity is an error, in the copy or in the original."""
    with pytest.raises(ParityError, match="not finite"):
        compare_engines(Shifted(), Shifted(spoil=value), CASES, "y")
    with pytest.raises(ParityError):
        compare_engines(Shifted(spoil=value), Shifted(), CASES, "y")


def test_another_shape_is_refused() -> None:
    """The same numbers in another shape are not the same."""
    with pytest.raises(ParityError, match="shape"):
        compare_engines(Shifted(), Transposed(), CASES, "y")


def test_cascades_are_compared_stage_by_stage() -> None:
    """The worst PSNR of each stage over the prompts, and the share of last samples that differ."""
    original = [Painter("base", 10), Painter("sr", 20)]
    changed = [Painter("base", 10), Painter("sr", 20, off=3)]
    same = compare_cascades(original, original, ["a", "b"])
    assert (same.psnr_db, same.differing) == ({"base": np.inf, "sr": np.inf}, 0.0)
    found = compare_cascades(original, changed, ["a", "b"])
    assert found.psnr_db["base"] == np.inf
    assert found.psnr_db["sr"] == pytest.approx(10 * np.log10(255**2 / (9 / 300)))
    assert found.differing == pytest.approx(1 / 300)


@pytest.mark.parametrize("preset", [TINY_BASE, TINY_SR], ids=["base", "sr"])
def test_cases_are_graph_inputs(preset: Any) -> None:
    """Held-out pictures at every time, in the graph's own names, dtypes and shapes."""
    cases = stage_cases(preset, tiny_dataset(), TIMES)
    assert len(cases) == len(TIMES)
    names = {spec.name for spec in graph_inputs(preset)}
    for time, case in zip(TIMES, cases, strict=True):
        assert set(case) == names
        assert all(value.dtype == np.float32 and len(value) == 2 for value in case.values())
        assert case["t"].tolist() == [np.float32(time), np.float32(1 - time)]
        assert case["context_mask"][0].all()
        assert not case["context_mask"][1].any()
        assert case["x_t"].shape == (2, 3, 32, 32)


def test_the_low_resolution_input_is_the_runtimes() -> None:
    """A flat picture stays flat at level 0, and is noised at a level above."""
    flat = np.full((32, 32, 3), 200, np.uint8)
    value = np.float32(200 / 127.5 - 1)
    assert low_resolution(TINY_SR, flat, 0.0) == pytest.approx(value, abs=1e-6)
    assert low_resolution(TINY_SR, flat, 0.3).std() > 0.1


def test_an_exported_network_passes_and_a_changed_one_does_not(upscaler: Any) -> None:
    """The gate of the exporter on a true graph: its own network passes, one other weight fails."""
    preset = replace(upscaler.preset, unet=upscaler.preset.unet)
    cases = stage_cases(preset, tiny_dataset(), TIMES)
    graph = OrtEngine(upscaler.model.SerializeToString(), threads=1)
    record = compare_engines(
        TorchEngine(upscaler.network, "prediction"), graph, cases, "prediction"
    )
    assert record.max_abs_error < TOLERANCE_ABS / 5
    assert record.psnr_db > 80
    other = EfficientUNet(preset.unet)
    other.load_state_dict(upscaler.network.state_dict())
    with torch.no_grad():
        other.conv_out.bias += 0.1
    with pytest.raises(ParityError):
        compare_engines(TorchEngine(other, "prediction"), graph, cases, "prediction")


def test_released_weights_are_half_precision() -> None:
    """Every parameter moves to its nearest half-precision number, and stays there."""
    network = stirred(TINY_BASE.unet)
    before = {n: p.clone() for n, p in network.named_parameters()}
    assert release(network, Storage.FLOAT16) is network
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name].half().float())
    again = {n: p.clone() for n, p in network.named_parameters()}
    release(network, Storage.FLOAT16)
    assert all(torch.equal(p, again[n]) for n, p in network.named_parameters())
