"""What each flag of the subcommands that train and export does, shown by doing it in miniature.

The presets are replaced by tiny ones, for the true networks take seconds a step. Needs torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.data.captions import STYLES
from stages.data.dataset import pack_image, read_concepts, write_dataset
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import PRESETS
from stages.training.checkpoint import load_metadata, load_part, save_checkpoint
from tests.flags.client_effects import Effect
from tests.flags.trial import Done, Trial
from tests.support.tiny_training import SELF_BASE, TINY_SR, WIDTH, smooth_picture


def small_data(path: Path, count: int = 3) -> None:
    """A prepared file with so many distinct pictures of 32 pixels; each has all renderings."""
    jobs = [(icon, style) for icon in read_concepts() for style in STYLES]
    packed = [pack_image(smooth_picture(32, seed)) for seed in range(count)]
    rng = np.random.default_rng(0)
    pictures = [packed[n % count] for n in range(len(jobs))]
    words = [rng.standard_normal((3, WIDTH)).astype(np.float32) for _ in range(2)]
    write_dataset(path, pictures, pictures, [[0, 1]] * len(jobs), [], ["a", "b"], words)


def data(t: Trial) -> Path:
    """The prepared file of a trial."""

    def make() -> Path:
        small_data(t.folder / "data.npz")
        return t.folder / "data.npz"

    return t.once("data", make)  # type: ignore[no-any-return]


def weights(t: Trial, name: str, **facts: Any) -> None:
    """An untrained checkpoint of a stage."""
    torch.manual_seed(5)
    state = EfficientUNet(PRESETS[name].unet).state_dict()
    save_checkpoint(t.folder / "c" / name, {"ema": state}, {"guided": 0.0, **facts})


def train(t: Trial, into: str, *flags: object, stage: str = "base", steps: int = 1) -> Any:
    """The averaged weights after a run, as one vector, and the facts of its checkpoint."""
    folder = t.folder / into
    t.ok(
        "train", stage, "--checkpoints", folder, "--data", data(t), "--steps", steps,
        "--batch", 2, "--sheet-minutes", 0, "--threads", 1, *flags,
    )  # fmt: skip
    return vector(folder / stage), load_metadata(folder / stage)


def vector(folder: Path, part: str = "ema") -> torch.Tensor:
    """All numbers of a checkpoint."""
    return torch.cat([p.flatten().float() for p in load_part(folder, part).values()])


def changes(*flags: object, stage: str = "base") -> Effect:
    """Other weights after one step than without the flag."""

    def effect(t: Trial) -> None:
        one, _ = train(t, "one", stage=stage)
        same, _ = train(t, "same", stage=stage)
        other, _ = train(t, "other", *flags, stage=stage)
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    return effect


def stage(t: Trial) -> None:
    """A checkpoint under that name."""
    train(t, "one", stage="sr256")


def half_steps(t: Trial) -> None:
    """Smaller pictures; other stages have none."""
    changes("--half-steps", 1)(t)
    said = t.refused("train", "sr256", "--half-steps", 1, "--data", data(t))
    assert said.startswith("error: half-steps")


def start(t: Trial) -> None:
    """From those weights."""
    weights(t, "base")
    changes("--start", t.folder / "c" / "base")(t)


def regression(t: Trial) -> None:
    """In a folder of its own; the base stage has none."""
    weights(t, "sr256")
    args = ("--checkpoints", t.folder / "c", "--data", data(t), "--steps", 1, "--batch", 2)
    t.ok("train", "sr256", "--regression", *args, "--sheet-minutes", 0)
    assert load_metadata(t.folder / "c" / "sr256.regression")["regression"] == 1.0
    weights(t, "base")
    assert "regression: base" in t.refused("train", "base", "--regression", *args)


def minutes(t: Trial) -> None:
    """It ends by time as well as by steps."""
    _, facts = train(t, "one", "--minutes", 0, steps=100_000)
    assert facts["step"] < 100


def steps(t: Trial) -> None:
    """So many in all."""
    assert [train(t, f"s{n}", steps=n)[1]["step"] for n in (1, 3)] == [1, 3]


def batch(t: Trial) -> None:
    """So many samples a step."""
    assert train(t, "one", "--batch", 3)[1]["samples"] == 3


def data_flag(t: Trial) -> None:
    """That file's pictures."""
    one, _ = train(t, "one")
    small_data(t.folder / "other.npz", count=1)
    other, _ = train(t, "other", "--data", t.folder / "other.npz")
    assert not torch.equal(one, other)


def device(t: Trial) -> None:
    """One that torch does not have is refused by name."""
    train(t, "one", "--device", "cpu")
    said = t.refused("train", "base", "--data", data(t), "--device", "no-such-device")
    assert said.startswith("error: device")


def threads(t: Trial) -> None:
    """As many as torch is told."""
    before = torch.get_num_threads()
    try:
        train(t, "one", "--threads", 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def keep_minutes(t: Trial) -> None:
    """The weights are kept under the number of samples."""
    train(t, "one", "--keep-minutes", 1e-9, steps=2)
    assert list((t.folder / "one").glob("base.at.*"))


def sheet_minutes(t: Trial) -> None:
    """A sheet of samples once so many minutes are over, and not before.

    Asked of the writer itself: a run tells it of its minutes every 20 seconds.
    """
    from stages.data.dataset import open_dataset
    from stages.evaluation.sheet import SheetWriter
    from tests.flags.walk import parsed

    every = parsed("train", "base", "--sheet-minutes", "5").sheet_minutes
    writer = SheetWriter(SELF_BASE, open_dataset(data(t)), t.folder, every_minutes=every)
    network = EfficientUNet(SELF_BASE.unet).eval()
    for minutes_over, sheets in ((4.9, 0), (5.1, 1)):
        writer(minutes_over, 1, network)
        assert len(list(t.folder.glob("base-*.png"))) == sheets


def cool_down(t: Trial) -> None:
    """The learning rate falls over that share of the steps' time."""
    from stages.cli import run_options
    from tests.flags.walk import parsed

    args = parsed("train", "base", "--cool-down", "0.75")
    assert run_options(args).cool_down == 0.75


def distill(t: Trial, *flags: object, what: str = "steps") -> Done:
    """One step of a student."""
    weights(t, "base")
    return t.run(
        "distill", what, "base", "--checkpoints", t.folder / "c", "--data", data(t), "--steps", 1,
        "--batch", 2, "--sheet-minutes", 0, *flags,
    )  # fmt: skip


def what(t: Trial) -> None:
    """Two kinds of students."""
    assert distill(t, what="guidance").code == 0
    assert (t.folder / "c" / "base.guided").is_dir()


def to(t: Trial) -> None:
    """The student's steps; guidance has none."""
    assert distill(t, "--to", 4).code == 0
    assert (t.folder / "c" / "base.4").is_dir()
    assert "to: it goes with" in distill(t, "--to", 4, what="guidance").err


def teacher(t: Trial) -> None:
    """That folder teaches."""
    weights(t, "base")
    (t.folder / "c" / "base").rename(t.folder / "c" / "base.mine")
    assert distill(t, "--to", 4, "--teacher", "base.mine").code == 0
    assert (t.folder / "c" / "base.mine.4").is_dir()


def same_as_train(effect: Effect) -> Effect:
    """`distill` hands the options of a run to the same function as `train`."""

    def checked(t: Trial) -> None:
        from stages.cli import run_options
        from tests.flags.walk import parsed

        words = ["--minutes", "3", "--cool-down", "0.5", "--optimizer", "adamw", "--batch", "3",
                 "--learning-rate", "0.5", "--seed", "4", "--keep-minutes", "2", "--bf16",
                 "--checkpoints", "x", "--device", "meta", "--steps", "9"]  # fmt: skip
        train_options = run_options(parsed("train", "base", *words))
        assert run_options(parsed("distill", "steps", "base", *words)) == train_options
        assert callable(effect)

    return checked


def evaluate(t: Trial, *flags: object, stage: str = "sr256") -> list[dict[str, Any]]:
    """The lines of one evaluation."""
    weights(t, stage)
    out = t.ok(
        "evaluate", stage, "--data", data(t), "--checkpoints", t.folder / "c", "--steps", 1,
        "--pictures", 1, *flags,
    ).out  # fmt: skip
    return [json.loads(line) for line in out.splitlines()]


def evaluation(flag: str, *values: object, key: str, wanted: list[Any]) -> Effect:
    """The lines have those values."""

    def effect(t: Trial) -> None:
        assert [line[key] for line in evaluate(t, flag, *values)] == wanted

    return effect


def needs(*command: object, flag: str, says: str) -> Effect:
    """What the flag names and is not there stops the command by name."""

    def effect(t: Trial) -> None:
        assert says in t.refused(*command, flag, t.folder / "none")

    return effect


RUN = {
    "--minutes": minutes,
    "--steps": steps,
    "--cool-down": cool_down,
    "--optimizer": changes("--optimizer", "adamw"),
    "--learning-rate": changes("--learning-rate", 0.5),
    "--batch": batch,
    "--data": data_flag,
    "--checkpoints": stage,
    "--device": device,
    "--bf16": changes("--bf16"),
    "--threads": threads,
    "--seed": changes("--seed", 1),
    "--keep-minutes": keep_minutes,
    "--sheet-minutes": sheet_minutes,
}
EFFECTS: Mapping[str, Effect | str] = {
    "train stage": stage,
    "train --half-steps": half_steps,
    "train --start": start,
    "train --regression": regression,
    **{f"train {flag}": effect for flag, effect in RUN.items()},
    "distill what": what,
    "distill stage": what,
    "distill --to": to,
    "distill --teacher": teacher,
    **{f"distill {flag}": same_as_train(effect) for flag, effect in RUN.items()},
    "evaluate stage": evaluation("--steps", 1, key="steps", wanted=[1]),
    "evaluate --data": needs("evaluate", "sr256", flag="--data", says="data: "),
    "evaluate --checkpoints": evaluation("--steps", 1, key="pictures", wanted=[1]),
    "evaluate --steps": evaluation("--steps", 1, 2, key="steps", wanted=[1, 2]),
    "evaluate --augmentation": evaluation(
        "--augmentation", 0, 0.5, key="augmentation", wanted=[0.0, 0.5]
    ),
    "evaluate --pictures": evaluation("--pictures", 2, key="pictures", wanted=[2]),
}
TINY = {"base": SELF_BASE, "sr256": TINY_SR}
"""Presets in the place of the true ones."""
