"""Repeated refinement in training: continuous levels, both losses, augmented small pictures."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.commands.cli import main
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.schedule import CosineSchedule
from cascade.errors import InvalidRequest
from stages.data.captions import STYLES
from stages.data.class_batch import ClassBatch
from stages.data.class_loader import ClassLoader, class_names
from stages.data.dataset import Dataset, read_concepts, write_dataset
from stages.refinement_presets import REFINEMENT_PRESETS
from stages.training.checkpoint import load_metadata, load_part
from stages.training.conditioning_augmentation import (
    AugmentationKind,
    ConditioningAugmentation,
    blurred,
    with_noise,
)
from stages.training.noise_levels import NoiseLevels
from stages.training.refinement import (
    LossKind,
    RefinementChoices,
    RefinementObjective,
    refinement_recipe,
)
from stages.training.trainer import TrainOptions, open_trainer, train
from tests.support.tiny_refinement import TINY_CLASSES, TINY_REFINE, stirred_refinement
from tests.support.tiny_training import Recorder, smooth_picture, tiny_dataset

SCHEDULE = CosineSchedule()
PICTURES = torch.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Four classes and two held-out concepts."""
    return tiny_dataset(pictures=[smooth_picture(256, seed) for seed in range(6)])


def generator() -> torch.Generator:
    """The same draws every time."""
    return torch.Generator().manual_seed(7)


def test_gamma_is_even_inside_every_step() -> None:
    """As many draws in each of the steps, evenly between the two signal powers around it."""
    steps = 4
    power = NoiseLevels(SCHEDULE, steps).draw(4000, generator()).double() ** 2
    bounds = SCHEDULE.alpha(np.arange(steps + 1) / steps) ** 2
    for high, low in pairwise(bounds):
        inside = power[(power > low) & (power <= high)]
        assert len(inside) == pytest.approx(1000, abs=2)
        # Evenly: mean and variance of a draw from [0, 1].
        share = (inside - low) / (high - low)
        assert share.mean() == pytest.approx(0.5, abs=0.03)
        assert share.var() == pytest.approx(1 / 12, abs=0.01)


class Answering(torch.nn.Module):
    """A network that says the same of every pixel."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, **_: torch.Tensor) -> torch.Tensor:
        """The answer, `[B, 3, H, W]`."""
        return self.answer


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_is_the_distance_of_the_noise(loss: LossKind) -> None:
    """0 for the noise itself; half a unit away it is 1/2, or its square."""
    choices = RefinementChoices(loss=loss)
    objective = RefinementObjective(levels=NoiseLevels(SCHEDULE), classes=4, choices=choices)
    batch = ClassBatch(PICTURES, None, torch.arange(4))
    inputs, noise = objective.asked(batch, generator())
    root = inputs["noise_level"][:, None, None, None]
    torch.testing.assert_close(inputs["x_t"], root * PICTURES + (1 - root**2).sqrt() * noise)
    for away, wanted in ((0.0, 0.0), (0.5, 0.5 if loss == "l1" else 0.25)):
        found = objective.loss(Answering(noise + away), batch, generator())
        torch.testing.assert_close(found, torch.full((4,), wanted))


def test_a_class_is_told_or_left_out() -> None:
    """One-hot; its mask is 0 for the share that goes without."""
    for share, told in ((0.0, 1.0), (1.0, 0.0)):
        choices = RefinementChoices(label_dropout=share)
        objective = RefinementObjective(levels=NoiseLevels(SCHEDULE), classes=4, choices=choices)
        inputs, _ = objective.asked(ClassBatch(PICTURES, None, torch.arange(4)), generator())
        assert torch.equal(inputs["context"], torch.eye(4)[:, None])
        assert (inputs["context_mask"] == told).all()


@pytest.mark.parametrize("kind", ["none", "gaussian", "blur"])
def test_the_network_is_shown_the_enlarged_picture_and_its_level(kind: AugmentationKind) -> None:
    """Augmented at its own size, enlarged as a stage does it; only noise has a level."""
    augmentation = ConditioningAugmentation(kind=kind, blurred=1.0)
    choices = RefinementChoices(augmentation=augmentation)
    objective = RefinementObjective(levels=NoiseLevels(SCHEDULE), classes=4, choices=choices)
    model, small = Recorder(), PICTURES[..., ::2, ::2]
    objective.loss(model, ClassBatch(PICTURES, small, torch.arange(4)), generator())
    (shown,) = model.calls
    assert shown["low_res"].shape == PICTURES.shape
    assert (shown["aug_level"] > 0).all() == (kind == "gaussian")
    assert shown["aug_level"].max() <= 0.5
    plain = torch.from_numpy(upsample(small.contiguous().numpy(), 2))
    assert torch.equal(shown["low_res"], plain) == (kind == "none")


def test_noise_is_that_of_a_stage() -> None:
    """The forward process of every picture at its own level; level 0 leaves it."""
    levels = torch.tensor([0.0, 0.1, 0.5, 1.0])
    noise = torch.randn(PICTURES.shape, generator=generator())
    found = with_noise(PICTURES, levels, generator())
    for row, level in enumerate(levels.double().tolist()):
        one = slice(row, row + 1)
        wanted = augment(PICTURES[one].numpy(), level, noise[one].numpy())
        np.testing.assert_allclose(found[one].numpy(), wanted, atol=1e-6)


def test_blur_is_a_gaussian_of_three_by_three() -> None:
    """A flat picture stays; a point becomes the normalised outer product of the filter."""
    width = torch.tensor([0.4, 0.6])
    flat = torch.full((2, 3, 5, 5), 0.25)
    torch.testing.assert_close(blurred(flat, width), flat)
    point = torch.zeros(2, 3, 5, 5)
    point[:, :, 2, 2] = 1
    for row, deviation in enumerate(width.tolist()):
        side = np.exp(-1 / (2 * deviation**2))
        line = np.array([side, 1, side]) / (1 + 2 * side)
        found = blurred(point, width)[row, 0].numpy()
        np.testing.assert_allclose(found[1:4, 1:4], np.outer(line, line), atol=1e-6)
        assert np.count_nonzero(found) == 9


def test_blur_meets_its_share_of_the_examples() -> None:
    """None and all of them."""
    for share in (0.0, 1.0):
        augmentation = ConditioningAugmentation(kind="blur", blurred=share)
        found = augmentation.apply(PICTURES, generator()).pictures
        changed = (found != PICTURES).flatten(1).any(1)
        assert changed.all() == bool(share)
        assert changed.any() == bool(share)


def test_a_class_is_a_concept(data: Dataset) -> None:
    """Those that are trained on, spread; small pictures are means of blocks of large ones."""
    assert class_names(data, 2) == ("icon-0", "icon-3")
    assert len(class_names(data, 99)) == 4
    batch = ClassLoader(data, TINY_REFINE).batch(16, generator())
    assert batch.small is not None
    blocks = batch.x0.unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean(dim=(3, 5))
    assert (batch.small - blocks).abs().max() <= 1.01 / 255
    assert set(batch.label.tolist()) == {0, 1, 2, 3}


def test_training_goes_on_and_says_what_it_was(data: Dataset, tmp_path: Path) -> None:
    """In a folder named after augmentation and loss; other weights of the same shape may start."""
    loader = ClassLoader(data, TINY_REFINE)
    choices = RefinementChoices(loss="l1", augmentation=ConditioningAugmentation(kind="gaussian"))
    recipe = refinement_recipe(TINY_REFINE, loader, 0, choices)
    options = TrainOptions(folder=tmp_path, steps=2, batch=2)
    train(TINY_REFINE, loader, options, lambda _: None, recipe=recipe)
    folder = tmp_path / "refine32.gaussian.l1"
    facts = load_metadata(folder)
    assert (facts["step"], facts["loss_kind"], facts["augmentation"]) == (2, "l1", "gaussian")
    assert facts["classes"] == "icon-0,icon-1,icon-2,icon-3"
    assert open_trainer(TINY_REFINE, loader, options, recipe).step == 2
    again = refinement_recipe(TINY_REFINE, loader, 0, choices, start=folder)
    assert all(torch.equal(again.start[n], t) for n, t in load_part(folder, "ema").items())
    with pytest.raises(InvalidRequest, match="holds another network"):
        refinement_recipe(TINY_CLASSES, ClassLoader(data, TINY_CLASSES), 0, choices, start=folder)


def test_a_network_depends_on_all_that_it_is_told() -> None:
    """Noise level, class, mask, small picture and its level: each changes the answer."""
    network = stirred_refinement(TINY_REFINE)
    inputs = {
        "x_t": torch.randn(2, 3, 16, 16, generator=generator()),
        "noise_level": torch.tensor([0.3, 0.8]),
        "context": torch.eye(4)[:2, None],
        "context_mask": torch.ones(2, 1),
        "low_res": torch.zeros(2, 3, 16, 16),
        "aug_level": torch.tensor([0.1, 0.4]),
    }
    answer = network(**inputs)
    for name, value in inputs.items():
        assert not torch.allclose(network(**{**inputs, name: value * 0.5 + 0.1}), answer), name


def test_the_command_trains(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--loss` and `--augmentation` name the folder, and each gives other weights."""
    monkeypatch.setitem(REFINEMENT_PRESETS, "refine32", TINY_REFINE)
    pictures = data.pictures_256[:3]
    jobs = [(icon, style) for icon in read_concepts() for style in STYLES]
    shown = [pictures[n % 3] for n in range(len(jobs))]
    words = [np.ones((1, 2), np.float32)]
    write_dataset(tmp_path / "d.npz", shown, shown, [[0, 0]] * len(jobs), [], ["a"], words)
    found = []
    for flags in ("", "--loss l1", "--augmentation none", "--augmentation blur"):
        given = f"train refine32 --checkpoints {tmp_path} --data {tmp_path / 'd.npz'} --steps 1"
        assert main([*given.split(), "--threads", "1", *flags.split()]) == 0
    for name in ("gaussian.l2", "gaussian.l1", "none.l2", "blur.l2"):
        weights = load_part(tmp_path / f"refine32.{name}", "ema").values()
        found.append(torch.cat([tensor.flatten() for tensor in weights]))
    assert all(not torch.equal(one, other) for one, other in combinations(found[:3], 2))
