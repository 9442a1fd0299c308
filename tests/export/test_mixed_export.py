"""A diffusion base with an upscaler of pixels by groups behind it, described for one bundle.

Their graphs are exported and proven by the tests of each family; how such a bundle draws is in
`tests/congruence/test_mixed_bundle.py`.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from export.adapters import pixel_cascade
from export.adapters.pixel_cascade import PixelSource, describe_pixels
from export.adapters.reference_cascade import CONTEXT_WIDTH
from export.description import PixelStageDescription, StageDescription
from stages.pixel_presets import AVERAGED, PX128, PX256
from stages.reference import BASE
from stages.training.checkpoint import save_checkpoint
from tests.export.test_pixel_export import weights
from tests.support.tiny_pixels import TINY_SECOND
from tests.support.tiny_training import FACTS, SELF_BASE, stirred, tiny_dataset

UPSCALER = replace(
    TINY_SECOND,
    name="px64",
    resolution=64,
    low_resolution=SELF_BASE.resolution,
    scheme=AVERAGED,
    context_width=0,
    text_planes=0,
    positions=False,
)
"""From means of 32 pixels, which it keeps; it knows no text."""
PRESETS = {"base": replace(SELF_BASE, unet=replace(SELF_BASE.unet, context_width=CONTEXT_WIDTH))}


def test_both_families_are_described_with_the_text_encoder_of_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage as its own family has it; the upscaler reads no text, so one encoder does."""
    monkeypatch.setattr(pixel_cascade, "PIXEL_PRESETS", {UPSCALER.name: UPSCALER})
    monkeypatch.setattr(pixel_cascade, "PRESETS", PRESETS)
    data = tiny_dataset(width=CONTEXT_WIDTH)
    monkeypatch.setattr(pixel_cascade, "open_dataset", lambda _: data)
    monkeypatch.setattr(pixel_cascade, "open_captioned", lambda *_: tiny_dataset(size=256))
    base = stirred(PRESETS["base"].unet).state_dict()
    save_checkpoint(tmp_path / "student", {"ema": base}, FACTS)
    save_checkpoint(tmp_path / UPSCALER.name, {"ema": weights(UPSCALER)}, FACTS)
    source = PixelSource(
        stages=("base", "px64"),
        checkpoints=tmp_path,
        data_file=tmp_path,
        networks={"base": "student"},
    )
    described = describe_pixels(source)
    first, second = described.stages
    assert isinstance(first, StageDescription)
    assert isinstance(second, PixelStageDescription)
    assert (first.output_resolution, second.input_resolution) == (32, 32)
    assert not second.uses_context
    assert described.text_encoder is not None
    assert described.text_encoder.context_width == CONTEXT_WIDTH


def test_the_upscalers_fit_behind_both_bases() -> None:
    """From 64 pixels to 256; behind the first stages of text they would read two encoders."""
    chain = pixel_cascade.chain_of(("base", "px128", "px256"))
    assert chain == [BASE, PX128, PX256]
    assert pixel_cascade.chain_of(("px64", "px128"))[-1] is PX128
    assert {pixel_cascade.context_width(preset) for preset in chain} == {CONTEXT_WIDTH, 0}
    with pytest.raises(InvalidRequest, match="base starts from a picture of None"):
        pixel_cascade.chain_of(("px64", "base"))


def test_a_student_is_named_for_the_diffusion_stage_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--networks px128=...` is refused, and names the stages that have students."""
    command = ["export", "--stages", "base", "px128", "--networks", "px128=x"]
    assert main([*command, "--out", str(tmp_path / "out")]) != 0
    assert "networks: expected STAGE=FOLDER with base, sr256, sr1024" in capsys.readouterr().err
