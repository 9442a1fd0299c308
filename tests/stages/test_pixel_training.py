"""Training of pixels by groups: it learns, keeps its bound, resumes to the bit, and reports."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cascade.errors import InvalidRequest
from stages import cli
from stages.data.pixel_loader import PixelLoader
from stages.evaluation.pixel_bits import evaluate_pixels, load_frozen
from stages.networks.exact import BIAS_UNIT, ROOM, check_bound
from stages.networks.pixel_network import PixelNetwork
from stages.pixel_presets import AVERAGED, PixelPreset
from stages.training.pixel_objective import LOGIT_UNIT, PixelObjective, symbols_of
from stages.training.pixel_recipe import COUNTED, GROUP, pixel_recipe, starting_logits
from stages.training.trainer import Trainer, TrainOptions, open_trainer
from tests.stages.test_trainer import assert_same
from tests.support.tiny_pixels import TINY_FIRST, TINY_SECOND
from tests.support.tiny_training import tiny_dataset

DATA = tiny_dataset(size=256)
LOADERS = {preset.name: PixelLoader(DATA, preset) for preset in (TINY_FIRST, TINY_SECOND)}


def trained(
    folder: Path, steps: int, preset: PixelPreset = TINY_SECOND, *, seed: int = 0
) -> Trainer[PixelNetwork]:
    """A run of the tiny data that goes on from its checkpoint, to so many steps in all."""
    options = TrainOptions(folder=folder, steps=steps, cool_down=0.0, seed=seed)
    loader = LOADERS[preset.name]
    trainer = open_trainer(preset, loader, options, pixel_recipe(preset, loader, seed))
    for _ in trainer.run():
        pass
    return trainer


@pytest.mark.parametrize("preset", [TINY_FIRST, TINY_SECOND], ids=["first", "second"])
def test_resuming_changes_nothing(tmp_path: Path, preset: PixelPreset) -> None:
    """Four steps equal two, a checkpoint, a new process and two more, to the bit."""
    straight = trained(tmp_path / "straight", 4, preset)
    trained(tmp_path / "halves", 2, preset)
    # Another seed: whatever was not restored would differ.
    assert_same(straight, trained(tmp_path / "halves", 4, preset, seed=5))


def test_the_same_steps_make_the_loss_smaller_every_time(tmp_path: Path) -> None:
    """Twelve steps on four pictures: fewer bits for one fixed batch, and twice the same weights."""
    batch = LOADERS["px16"].batch(8, torch.Generator().manual_seed(1))

    def loss(run: Trainer[PixelNetwork]) -> float:
        with torch.no_grad():
            return float(PixelObjective().loss(run.model, batch, torch.Generator()).mean())

    before, after = trained(tmp_path / "one", 0), trained(tmp_path / "two", 12)
    assert loss(after) < loss(before) - 0.1
    assert loss(trained(tmp_path / "three", 12)) == loss(after)


def test_training_starts_from_the_frequencies_of_symbols() -> None:
    """The softmax of both biases, as the head uses them, is how often each half was counted."""
    loader = LOADERS["px16"]
    high, low = starting_logits(loader)
    symbols = symbols_of(loader.batch(COUNTED, torch.Generator().manual_seed(0))).flatten()
    counts = torch.bincount(symbols, minlength=256).float() + 1
    found = torch.softmax(high * BIAS_UNIT / LOGIT_UNIT, 0)
    assert torch.allclose(found, counts.view(16, 16).sum(1) / counts.sum(), rtol=1e-4)
    rows = torch.softmax(low.view(16, 16) * BIAS_UNIT / LOGIT_UNIT, 1)
    assert torch.allclose(rows[8], counts.view(16, 16)[8] / counts[128:144].sum(), rtol=1e-4)


def test_training_keeps_the_bound(tmp_path: Path) -> None:
    """Weights pushed out of it are back after one step, and can be exported."""
    run = trained(tmp_path, 1)
    with torch.no_grad():
        run.model.body.out.weight.mul_(1000)
    run.train_step(0.0)
    sums = run.model.body.out.size_of_sums()
    assert float(sums.max()) <= ROOM * 2**14 * (1 + 1e-6)


def test_a_checkpoint_is_measured_on_held_out_pictures(tmp_path: Path) -> None:
    """Bits of the two held-out pictures, beside both codecs; the weights are the averages."""
    run = trained(tmp_path, 2)
    found = evaluate_pixels(TINY_SECOND, DATA, tmp_path / "px16", limit=5)
    assert found["pictures"] == 2
    assert found["step"] == 2
    assert len(found["groups"]) == 3
    assert found["bits_per_value"] == pytest.approx(0.25 * sum(found["groups"]), abs=1e-3)
    assert found["webp_bits_per_value"] > 0
    network = load_frozen(TINY_SECOND, tmp_path / "px16")
    assert found["bound"] == pytest.approx(check_bound(network), abs=1e-4)
    averaged = run.ema.body.stem.weight
    assert torch.equal(network.body.stem.weight, torch.round(averaged * 512) / 512)


def test_the_command_trains_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cascade train px16` writes a checkpoint that `cascade evaluate px16` reads."""
    monkeypatch.setattr("stages.pixel_presets.PIXEL_PRESETS", {"px16": TINY_SECOND})
    monkeypatch.setattr("stages.training.words.open_dataset", lambda _path: DATA)
    common = ["--checkpoints", str(tmp_path), "--data", "none.npz"]
    assert command(monkeypatch, ["train", "px16", "--steps", "2", *common]) == 0
    assert command(monkeypatch, ["evaluate", "px16", *common]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["stage"] == "px16"
    assert 0 < found["bits_per_value"] < 8
    assert found["held_out_with_own_caption"] == found["bits_per_value"]
    assert found["trained_with_own_caption"] != found["trained_with_other_caption"]


@pytest.mark.parametrize("flag", [["--regression"], ["--half-steps", "3"]])
def test_flags_of_diffusion_are_refused(
    flag: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the flag; nothing is read."""
    assert command(monkeypatch, ["train", "px32", *flag]) != 0
    assert flag[0].removeprefix("--") in capsys.readouterr().err


def command(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    """What `python -m stages.cli` returns."""
    monkeypatch.setattr("sys.argv", ["stages", *arguments])
    return cli.main()


def test_other_presets_have_other_random_weights_by_seed(tmp_path: Path) -> None:
    """The seed decides the weights; the name decides the folder."""
    other = replace(TINY_SECOND, name="px16.rows")
    LOADERS["px16.rows"] = PixelLoader(DATA, other)
    one = trained(tmp_path, 0, other, seed=1)
    assert one.checkpoint == tmp_path / "px16.rows"
    assert not torch.equal(one.model.body.stem.weight, trained(tmp_path, 0).model.body.stem.weight)


def test_a_stage_starts_with_the_weights_of_another_of_its_shape(tmp_path: Path) -> None:
    """All but the table of passes, where these are more; another network is refused by name."""
    first = trained(tmp_path, 1)
    more = replace(TINY_SECOND, name="px32", scheme=AVERAGED)
    start = tmp_path / TINY_SECOND.name
    found = pixel_recipe(more, LOADERS["px16"], 3, start=start).start
    network = more.network()
    network.load_state_dict(found)
    own = first.ema.state_dict()
    assert [name for name in own if not torch.equal(own[name], found[name])] == [GROUP]
    assert len(found[GROUP]) == more.passes > len(own[GROUP])
    wider = replace(TINY_SECOND, width=24)
    with pytest.raises(InvalidRequest, match=r"start: .* holds another network \(body\.") as caught:
        pixel_recipe(wider, LOADERS["px16"], 3, start=start)
    assert caught.value.field == "start"
