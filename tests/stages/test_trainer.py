"""Training: it goes on exactly where it stood, averages as documented, and learns."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cascade.errors import InvalidRequest, StageError
from stages.data.loader import Loader
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import StagePreset
from stages.training.checkpoint import load_metadata, load_part, save_checkpoint
from stages.training.trained_network import load_network
from stages.training.trainer import (
    FINAL_SHARE,
    WARM_UP_STEPS,
    Trainer,
    TrainOptions,
    open_trainer,
    train,
)
from tests.support.tiny_training import FACTS, TINY_BASE, TINY_SR, smooth_picture, tiny_dataset


def trainer(folder: Path, preset: StagePreset = TINY_SR, **options: Any) -> Trainer:
    """A trainer of the tiny data, without a cool-down."""
    loader = Loader(tiny_dataset(), preset)
    return open_trainer(
        preset, loader, TrainOptions(folder=folder, **{"cool_down": 0.0, **options})
    )


def finish(run: Iterator[object]) -> None:
    """Train to the end of a run."""
    for _ in run:
        pass


def assert_same(one: Trainer, other: Trainer) -> None:
    """Everything that training goes on from is equal, to the bit."""
    for left, right in ((one.model, other.model), (one.ema, other.ema)):
        for name, tensor in left.state_dict().items():
            assert torch.equal(tensor, right.state_dict()[name]), name
    assert torch.equal(one.generator.get_state(), other.generator.get_state())
    assert (one.step, one.samples, one.loss) == (other.step, other.samples, other.loss)
    states = one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        for key, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][number][key]))


@pytest.mark.parametrize("preset", [TINY_BASE, TINY_SR], ids=["base", "sr"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adafactor"])
def test_resuming_changes_nothing(tmp_path: Path, preset: StagePreset, optimizer: str) -> None:
    """Four steps equal two, a checkpoint, a new process and two more, to the bit."""
    straight = trainer(tmp_path / "straight", preset, steps=4, optimizer=optimizer)
    finish(straight.run())
    finish(trainer(tmp_path / "halves", preset, steps=2, optimizer=optimizer).run())
    # Another seed: whatever was not restored would differ.
    resumed = trainer(tmp_path / "halves", preset, steps=4, optimizer=optimizer, seed=5)
    assert resumed.step == 2
    finish(resumed.run())
    assert_same(straight, resumed)
    assert straight.step == 4


def test_a_checkpoint_holds_the_averaged_network(tmp_path: Path) -> None:
    """The weights to export are the averages, and the facts are those of the run."""
    run = trainer(tmp_path, steps=2)
    finish(run.run())
    folder = tmp_path / TINY_SR.name
    network = load_network(TINY_SR, folder)
    for name, tensor in run.ema.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
    assert not network.training
    assert load_part(folder, "ema").keys() == EfficientUNet(TINY_SR.unet).state_dict().keys()
    facts = load_metadata(folder)
    assert (facts["stage"], facts["step"], facts["samples"]) == ("sr256", 2, 8)
    assert (facts["optimizer"], facts["pictures"]) == ("muon", 4)


def test_the_batch_may_be_another(tmp_path: Path) -> None:
    """Three steps of five samples are fifteen samples, whatever the preset says."""
    five = trainer(tmp_path, steps=3, batch=5)
    finish(five.run())
    assert five.samples == 15


def test_the_average_by_hand(tmp_path: Path) -> None:
    """After the first step the average has moved by 9/11 of the way to the new weights."""
    run = trainer(tmp_path)
    before = {n: p.clone() for n, p in run.ema.named_parameters()}
    run.train_step(0.0)
    for name, parameter in run.model.named_parameters():
        expected = before[name] + (1 - 2 / 11) * (parameter.detach() - before[name])
        torch.testing.assert_close(dict(run.ema.named_parameters())[name], expected)


def test_released_weights_are_no_run_to_go_on_with(tmp_path: Path) -> None:
    """`cascade weights` wrote them, without a state of training: --start begins with them."""
    weights = EfficientUNet(TINY_SR.unet).state_dict()
    save_checkpoint(tmp_path / TINY_SR.name, {"ema": weights}, {"stage": TINY_SR.name})
    with pytest.raises(InvalidRequest, match="begin with them by --start"):
        trainer(tmp_path, steps=1)


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    """A checkpoint cannot go on with another optimizer's state."""
    finish(trainer(tmp_path, steps=1).run())
    with pytest.raises(InvalidRequest, match="go on with --optimizer muon"):
        trainer(tmp_path, optimizer="adafactor")


def test_weights_alone_are_not_resumed(tmp_path: Path) -> None:
    """A stage read back from a bundle has no optimizer: the error says how to begin with it."""
    save_checkpoint(
        tmp_path / TINY_SR.name, {"ema": EfficientUNet(TINY_SR.unet).state_dict()}, FACTS
    )
    with pytest.raises(InvalidRequest, match="--start") as caught:
        trainer(tmp_path)
    assert caught.value.field == "checkpoints"


@pytest.mark.parametrize("where", ["loss", "weight"])
def test_a_run_that_diverges_stops_and_keeps_its_checkpoint(tmp_path: Path, where: str) -> None:
    """The error names the step and the remedy; what was saved before is what is there."""
    finish(trainer(tmp_path, steps=2).run())
    kept = load_part(tmp_path / TINY_SR.name, "state")
    going = trainer(tmp_path, steps=9)
    with torch.no_grad():
        first = next(iter(going.model.parameters()))
        if where == "weight":
            first.view(-1)[0] = math.nan
        else:
            first.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(StageError, match=r"at step 2; .* smaller --learning-rate"):
        finish(going.run())
    now = load_part(tmp_path / TINY_SR.name, "state")
    assert all(torch.equal(tensor, now[name]) for name, tensor in kept.items())


def test_the_rate_warms_up_and_cools_down(tmp_path: Path) -> None:
    """Linear up over the first steps, constant, then linear down to a floor in the last share."""
    run = trainer(tmp_path, cool_down=0.25, learning_rate=1.0)

    def rate(step: int, share: float) -> float:
        run.step = step
        run.set_rates(share)
        return float(run.optimizer.param_groups[0]["lr"])

    assert rate(0, 0.0) == pytest.approx(1 / WARM_UP_STEPS)
    assert rate(49, 0.5) == pytest.approx(0.5)
    assert rate(500, 0.75) == pytest.approx(1.0)
    assert rate(500, 0.875) == pytest.approx(0.5)
    assert rate(500, 1.0) == pytest.approx(FINAL_SHARE)
    run = trainer(tmp_path, cool_down=0.0, learning_rate=1.0)
    assert rate(500, 0.999) == pytest.approx(1.0)


def test_the_first_steps_may_be_small(tmp_path: Path) -> None:
    """The base stage sees half the resolution for as many steps as asked."""
    run = trainer(tmp_path, TINY_BASE, half_steps=2, steps=3)
    sizes: list[int] = []
    run.model.register_forward_pre_hook(
        lambda _m, _args, kwargs: sizes.append(kwargs["x_t"].shape[-1]), with_kwargs=True
    )
    finish(run.run())
    assert sizes == [16, 16, 32]


def test_a_run_of_no_minutes_still_saves(tmp_path: Path) -> None:
    """A run whose time is over at once takes no step and leaves a checkpoint."""
    train(
        TINY_SR, Loader(tiny_dataset(), TINY_SR), TrainOptions(folder=tmp_path, minutes=0.0), print
    )
    assert load_metadata(tmp_path / TINY_SR.name)["step"] == 0


@pytest.mark.parametrize("preset", [TINY_BASE, TINY_SR], ids=["base", "sr"])
def test_the_loss_falls_on_one_picture(tmp_path: Path, preset: StagePreset) -> None:
    """Forty steps on a single picture teach something: the same questions cost clearly less."""
    data = tiny_dataset(pictures=[smooth_picture(32, 1)])
    options = TrainOptions(folder=tmp_path, cool_down=0.0, learning_rate=2e-2)
    run = open_trainer(preset, Loader(data, preset), options)

    def loss() -> float:
        batch = run.loader.batch(32, torch.Generator().manual_seed(3))
        with torch.no_grad():
            questions = torch.Generator().manual_seed(4)
            return float(run.objective.loss(run.model, batch, questions).mean())

    before = loss()
    for _ in range(40):
        run.train_step(0.0)
    assert math.isfinite(before)
    assert loss() < 0.6 * before
