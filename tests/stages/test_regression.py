"""Plain regression: it starts as enlargement, learns the picture, and sees no noise."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.errors import InvalidRequest
from stages.data.loader import Loader
from stages.evaluation.metrics import psnr_db
from stages.evaluation.upscaling import lanczos
from stages.networks.efficient_unet import EfficientUNet
from stages.training.checkpoint import load_metadata, save_checkpoint
from stages.training.recipes import regression_recipe
from stages.training.regression import RegressionObjective, regressed
from stages.training.trained_network import load_network
from stages.training.trainer import TrainOptions, preset_objective, train
from tests.support.tiny_training import TINY_BASE, TINY_SR, stirred, tiny_dataset

CONTEXT = np.zeros((2, 12), np.float16)


def test_an_untrained_network_enlarges() -> None:
    """At time 1 nothing of the sample is left; a flat picture stays as it is."""
    network = EfficientUNet(TINY_SR.unet).eval()
    low = np.full((8, 8, 3), 77, np.uint8)
    found = regressed(network, preset_objective(TINY_SR), low, CONTEXT, 4)
    assert found.shape == (32, 32, 3)
    assert np.abs(found.astype(int) - 77).max() <= 1


def test_the_loss_is_the_error_of_the_picture() -> None:
    """In units of residual_std squared, and the same whatever is drawn."""
    data = tiny_dataset()
    generator = torch.Generator().manual_seed(3)
    batch = Loader(data, TINY_SR).batch(3, generator)
    objective = RegressionObjective(objective=preset_objective(TINY_SR))
    network = EfficientUNet(TINY_SR.unet).eval()
    assert batch.low_res is not None
    with torch.no_grad():
        one, other = (objective.loss(network, batch, generator) for _ in range(2))
    error = (batch.low_res - batch.x0).square().mean(dim=(1, 2, 3)) / TINY_SR.unet.residual_std**2
    assert torch.equal(one, other)
    assert torch.allclose(one, error, rtol=0.02)


def test_the_base_stage_has_no_regression(tmp_path: Path) -> None:
    """It starts from no picture."""
    with pytest.raises(InvalidRequest, match="starts from no picture"):
        regression_recipe(TINY_BASE, tmp_path)


def test_training_one(tmp_path: Path) -> None:
    """It lands in a folder of its own and comes nearer to the pictures that it has seen."""
    data = tiny_dataset()
    save_checkpoint(tmp_path / "sr256", {"ema": stirred(TINY_SR.unet).state_dict()}, {})
    recipe = regression_recipe(TINY_SR, tmp_path / "sr256")
    options = TrainOptions(folder=tmp_path, minutes=5, steps=60, learning_rate=3e-3, seed=1)
    train(TINY_SR, Loader(data, TINY_SR), options, lambda _: None, recipe=recipe)
    folder = tmp_path / "sr256.regression"
    assert load_metadata(folder)["regression"] == 1.0
    objective, before = preset_objective(TINY_SR), stirred(TINY_SR.unet)
    truth = data.picture(0, 256)
    low = truth.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    after = load_network(TINY_SR, folder)
    scores = [
        psnr_db(regressed(network, objective, low, CONTEXT, 4), truth)
        for network in (before, after)
    ]
    assert scores[1] > scores[0] + 3
    assert psnr_db(lanczos(low, 32), truth) > 0
