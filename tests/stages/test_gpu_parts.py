"""The parts of `make gpu` on a processor, small: the same code but for the device."""

from itertools import islice

import pytest
import torch

from benchmarks.lib.gpu_parts import IMAGEN, exact_part, torch_part
from stages.networks.efficient_unet import EfficientUNet


def test_an_exact_component_has_one_hash() -> None:
    """Whatever the rows, and whatever a GPU would make of TF32."""
    figures = dict(exact_part("cpu", small=True))
    assert [row.get("equal", True) for row in figures.values()] == [True] * 5
    assert len({row["sha256"] for row in figures.values()}) == 1
    assert [row["tf32"] for row in list(figures.values())[1:]] == [False, False, True, True]


def test_torch_is_timed() -> None:
    """What runs eagerly, for compiling takes seconds; bfloat16 is near to float32 and not equal."""
    figures = dict(islice(torch_part("cpu", small=True), 4))
    names = ["eager fp32", "eager fp32 with TF32", "eager bf16"]
    assert list(figures) == ["parameters", *names]
    assert all(figures[name]["median_s"] > 0 for name in names)
    assert figures["eager fp32"]["max_abs_to_fp32"] == 0
    assert 0 < figures["eager bf16"]["max_abs_to_fp32"] < 0.1


def test_the_stage_is_of_imagens_size() -> None:
    """462 million parameters with our blocks, where Imagen has 600; made without memory."""
    with torch.device("meta"):
        network = EfficientUNet(IMAGEN)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(462, abs=1)
