"""A diffusion base with an upscaler of pixels by groups behind it: one bundle of two families."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.pixels.guess import cell_sums
from cascade.types import Array
from export.adapters import pixel_cascade
from runtime_client.client import Client
from stages.pixel_presets import AVERAGED
from stages.training.checkpoint import save_checkpoint
from stages.training.words import save_table
from tests.export.test_pixel_export import VOCABULARY, weights
from tests.support.tiny_pixels import TINY_SECOND
from tests.support.tiny_training import FACTS, SELF_BASE, WIDTH, stirred, tiny_dataset

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


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that the command writes of two checkpoints and a word table."""
    folder = tmp_path_factory.mktemp("mixed")
    checkpoints, out = folder / "checkpoints", folder / "tiny-mixed"
    save_checkpoint(checkpoints / "base", {"ema": stirred(SELF_BASE.unet).state_dict()}, FACTS)
    save_checkpoint(checkpoints / UPSCALER.name, {"ema": weights(UPSCALER)}, FACTS)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (VOCABULARY, WIDTH), generator=generator)
    save_table(checkpoints, rows.to(torch.int8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_cascade, "PIXEL_PRESETS", {UPSCALER.name: UPSCALER})
        patch.setattr(pixel_cascade, "PRESETS", {"base": SELF_BASE})
        patch.setattr(pixel_cascade, "WORDS", WIDTH)
        patch.setattr(pixel_cascade, "PROMPTS", pixel_cascade.PROMPTS[:1])
        patch.setattr(pixel_cascade, "open_dataset", lambda _: tiny_dataset())
        patch.setattr(pixel_cascade, "open_captioned", lambda *_: tiny_dataset(size=256))
        command = ["export", "--stages", "base", "px64", "--checkpoints", str(checkpoints)]
        assert main([*command, "--storage", "float16", "--out", str(out)]) == 0
    return open_bundle(out)


def pictures(bundle: Bundle, cut: int, seed: int) -> dict[str, Array]:
    """Every stage's picture, so many components in this process."""
    with Client(bundle, cut=cut, threads=1, precision="fp32") as client:
        return dict(client.generate("a red circle", seed=seed).images)


def test_both_families_are_in_one_bundle(mixed: Bundle) -> None:
    """Text, then a diffusion stage, then a stage of pixels, each with its own entry."""
    families = [spec.family for spec in mixed.manifest.components]
    assert families == ["text_encoder", "diffusion", "pixels"]


def test_every_cut_makes_the_same_picture(mixed: Bundle) -> None:
    """With none, one, two or three components on the client; means of the base stay."""
    here = pictures(mixed, 3, seed=5)
    assert here["px64"].shape == (64, 64, 3)
    assert ((cell_sums(here["px64"][None], 2) + 2) // 4 == here["base"]).all()
    assert (pictures(mixed, 3, seed=6)["px64"] != here["px64"]).any()
    for cut in (0, 1, 2):
        there = pictures(mixed, cut, seed=5)
        for name, image in there.items():
            np.testing.assert_array_equal(image, here[name], err_msg=f"{name}, cut {cut}")
        assert "px64" in there


def test_a_student_is_named_for_the_diffusion_stage_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--networks px128=...` is refused, and names the stages that have students."""
    command = ["export", "--stages", "base", "px128", "--networks", "px128=x"]
    assert main([*command, "--out", str(tmp_path / "out")]) != 0
    assert "networks: expected STAGE=FOLDER with base, sr256, sr1024" in capsys.readouterr().err
