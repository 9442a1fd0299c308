"""Held-out quality: PSNR in closed form, and an evaluation whose answer is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.evaluation.metrics import psnr_db
from stages.evaluation.upscaling import evaluate_upscaling, lanczos
from stages.networks.efficient_unet import EfficientUNet
from stages.training.checkpoint import save_checkpoint
from tests.support.tiny_training import TINY_SR, smooth_picture, tiny_dataset


@pytest.mark.parametrize(("off", "decibels"), [(1, 48.1308), (2, 42.1102), (255, 0.0)])
def test_psnr_of_a_constant_difference(off: int, decibels: float) -> None:
    """A difference of d levels everywhere is 20 log10(255 / d) dB."""
    dark = np.zeros((4, 5, 3), np.uint8)
    assert psnr_db(dark + np.uint8(off), dark) == pytest.approx(decibels, abs=1e-4)
    assert psnr_db(dark, dark + np.uint8(off)) == pytest.approx(decibels, abs=1e-4)


def test_psnr_of_one_pixel_in_a_hundred() -> None:
    """The mean square counts: a hundredth of the pixels off by ten levels is as one level."""
    image = np.zeros(100)
    image[3] = 10.0
    assert psnr_db(image, np.zeros(100)) == pytest.approx(psnr_db(np.ones(100), np.zeros(100)))


def test_psnr_of_the_same_is_infinite() -> None:
    """Equal pictures differ by nothing."""
    assert psnr_db(smooth_picture(8, 0), smooth_picture(8, 0)) == float("inf")


def test_psnr_knows_its_peak() -> None:
    """With numbers in [-1, 1] the peak is 2."""
    assert psnr_db(np.full(3, 0.2), np.zeros(3), peak=2.0) == pytest.approx(20.0)


def test_lanczos_keeps_a_flat_picture() -> None:
    """A picture of one colour stays so at any size."""
    assert (lanczos(np.full((8, 8, 3), 77, np.uint8), 32) == 77).all()
    assert lanczos(smooth_picture(8, 0), 32).shape == (32, 32, 3)


def test_an_untrained_stage_returns_the_enlarged_picture(tmp_path: Path) -> None:
    """On flat pictures enlarging is right, and so is a fresh stage, up to its unlearnt noise."""
    flat = [np.full((32, 32, 3), 30 + 40 * n, np.uint8) for n in range(6)]
    preset = replace(TINY_SR, unet=replace(TINY_SR.unet, residual_std=1e-3))
    save_checkpoint(tmp_path, {"ema": EfficientUNet(preset.unet).state_dict()}, {})
    scores = evaluate_upscaling(
        preset, tiny_dataset(pictures=flat), tmp_path, steps=4, augmentation=0.0, limit=9
    )
    assert scores["pictures"] == 2
    assert scores["lanczos_db"] == float("inf")
    assert scores["psnr_db"] > 50
