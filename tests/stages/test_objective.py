"""The objective: what is shown, what is asked, and the losses of networks whose answer is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from cascade.diffusion.conditioning import AUGMENTATION
from stages.data.training_batch import TrainingBatch
from stages.networks.efficient_unet import EfficientUNet
from stages.training.objective import Objective, even_times, scales
from tests.support.tiny_training import Recorder, tiny_unet

ROWS = 2000


def generator(seed: int = 0) -> torch.Generator:
    """A source of draws."""
    return torch.Generator().manual_seed(seed)


def batch(rows: int, *, upscales: bool, size: int = 4, residual_std: float = 0.25) -> TrainingBatch:
    """Random pictures of that detail around a random low-resolution picture."""
    source = generator(9)
    low = torch.randn(rows, 3, size, size, generator=source)
    x0 = low + residual_std * torch.randn(low.shape, generator=source)
    mask = torch.ones(rows, 3)
    mask[:, 2] = 0
    context = torch.randn(rows, 3, 12, generator=source)
    return TrainingBatch(x0, low if upscales else None, context, mask)


class Knowing(nn.Module):
    """A network that knows the true pictures and gives the true v, plus an offset."""

    def __init__(self, objective: Objective, x0: Tensor, offset: float) -> None:
        super().__init__()
        self.objective, self.x0, self.offset = objective, x0, offset

    def forward(self, x_t: Tensor, t: Tensor, **_: Tensor) -> Tensor:
        """`alpha epsilon - sigma x0`, with epsilon solved from `x_t`."""
        alpha, sigma = scales(self.objective.schedule, t)
        epsilon = (x_t.double() - alpha * self.x0) / sigma
        return (alpha * epsilon - sigma * self.x0 + self.offset).float()


def objective(**changes: object) -> Objective:
    """A cosine objective without augmentation."""
    return Objective(**{"schedule_kind": "cosine", "aug_range": (0.0, 0.0), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("upscales", [False, True])
def test_the_true_v_has_no_loss(kind: str, upscales: bool) -> None:  # noqa: FBT001
    """A network that returns the true v is asked nothing more."""
    asked = objective(schedule_kind=kind, aug_range=(0.0, 0.5), residual_std=0.25)
    samples = batch(8, upscales=upscales)
    loss = asked.loss(Knowing(asked, samples.x0, 0.0), samples, generator())
    assert loss.shape == (8,)
    # Recovering epsilon from float32 pictures divides their rounding by sigma.
    assert loss.max() < 1e-8


def test_an_offset_costs_its_square() -> None:
    """Per sample the loss is the mean square: 0.1 too much everywhere costs 0.01."""
    asked = objective()
    samples = batch(8, upscales=False)
    loss = asked.loss(Knowing(asked, samples.x0, 0.1), samples, generator())
    torch.testing.assert_close(loss, torch.full((8,), 0.01), atol=1e-5, rtol=0)


def test_silence_costs_the_variance_of_v() -> None:
    """For pictures of unit variance v has unit variance at every time: a silent network loses 1."""
    samples = batch(ROWS, upscales=False, residual_std=0.0)
    loss = objective().loss(Recorder(), samples, generator())
    assert loss.mean() == pytest.approx(1.0, abs=5 * math.sqrt(2 / (ROWS * 48)))


@pytest.mark.parametrize("highest", [0.0, 0.5])
def test_a_fresh_upscaler_loses_one(highest: float) -> None:
    """An untrained super-resolution stage loses 1 at every time, augmented or not."""
    config = tiny_unet(attention="cross", upscales=True)
    asked = objective(aug_range=(0.0, highest), residual_std=config.residual_std)
    samples = batch(200, upscales=True, size=8, residual_std=config.residual_std)
    with torch.no_grad():
        loss = asked.loss(EfficientUNet(config), samples, generator())
    assert loss.mean() == pytest.approx(1.0, abs=5 * math.sqrt(2 / (200 * 192)))


def test_what_is_shown_is_the_noised_picture() -> None:
    """`x_t` has the mean and variance of the forward process at the time that is shown."""
    network = Recorder()
    samples = batch(ROWS, upscales=False)
    samples.x0[:] = 0.5
    objective().loss(network, samples, generator())
    (call,) = network.calls
    alpha, sigma = scales(objective().schedule, call["t"])
    noise = (call["x_t"] - 0.5 * alpha) / sigma
    assert noise.mean() == pytest.approx(0, abs=5 / math.sqrt(noise.numel()))
    assert noise.var() == pytest.approx(1, abs=5 * math.sqrt(2 / noise.numel()))


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_times_are_spread_evenly(count: int) -> None:
    """One time in each of as many equal parts, in random order."""
    source = generator(count)
    draws = [even_times(count, source) for _ in range(20)]
    for times in draws:
        assert sorted((times * count).long().tolist()) == list(range(count))
        assert times.min() >= 0
        assert times.max() < 1
    if count > 2:
        assert len({tuple((times * count).long().tolist()) for times in draws}) > 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_text_is_dropped_as_often_as_asked(share: float) -> None:
    """That share of samples loses its whole mask, the others keep theirs."""
    network = Recorder()
    samples = batch(ROWS, upscales=False)
    objective(text_dropout=share).loss(network, samples, generator())
    mask = network.calls[0]["context_mask"]
    kept = mask.any(dim=1)
    assert (mask[kept] == samples.context_mask[0]).all()
    bound = 5 * math.sqrt(share * (1 - share) / ROWS)
    assert float((~kept).float().mean()) == pytest.approx(share, abs=bound)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.2, 0.2), (0.0, 0.0)])
def test_levels_fill_the_range_and_are_what_is_added(low: float, high: float) -> None:
    """The level shown is drawn evenly from the range, and is how strongly `low_res` was noised."""
    network = Recorder()
    samples = batch(ROWS, upscales=True)
    objective(aug_range=(low, high)).loss(network, samples, generator())
    (call,) = network.calls
    level = call["aug_level"]
    assert float(level.min()) == pytest.approx(low, abs=0.005)
    assert float(level.max()) == pytest.approx(high, abs=0.005)
    assert level.min() >= low
    assert level.max() <= high + 1e-7
    alpha, sigma = scales(AUGMENTATION, level)
    noise = (call["low_res"] - alpha * samples.low_res) / sigma
    # At level 0 sigma is e^-10: there float32 leaves three digits of the noise.
    assert noise.var() == pytest.approx(1, abs=0.03)


def test_base_stages_are_shown_no_low_resolution() -> None:
    """Without a smaller picture there is neither that nor a level among the inputs."""
    network = Recorder()
    objective().loss(network, batch(2, upscales=False), generator())
    assert set(network.calls[0]) == {"x_t", "t", "context", "context_mask"}


def test_all_draws_come_from_the_generator() -> None:
    """The same generator state gives the same loss, another one another."""
    samples = batch(4, upscales=True)
    torch.manual_seed(1)
    first = objective(aug_range=(0.0, 0.5)).loss(Recorder(), samples, generator(3))
    torch.manual_seed(2)
    again = objective(aug_range=(0.0, 0.5)).loss(Recorder(), samples, generator(3))
    other = objective(aug_range=(0.0, 0.5)).loss(Recorder(), samples, generator(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
