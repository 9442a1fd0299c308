"""The sweep: every setting once, the rule that names the winner, and a run in miniature."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.lib.plots import plot_sweep
from benchmarks.sweep import GRIDS, Grid, sweep, winner
from benchmarks.sweep_subjects import Opened, SweepSubject, redrawn, upscaling_score
from cascade.diffusion.schedule import make_schedule
from cascade.types import ImageU8
from stages.evaluation.metrics import psnr_db
from stages.evaluation.sampling import torch_spec
from stages.evaluation.torch_engine import TorchEngine
from stages.reference import SAMPLING, StagePreset
from tests.support.tiny_training import TINY_BASE, TINY_SR, Recorder, stirred, tiny_dataset

CONTEXT = np.ones((3, 12), np.float16)


def subject(preset: StagePreset, position: int) -> SweepSubject:
    """A network of random weights."""
    engine = TorchEngine(stirred(preset.unet, position), "prediction")
    return SweepSubject(name=preset.name, position=position, spec=torch_spec(preset), engine=engine)


def row(evaluations: int, **metric: float) -> dict[str, Any]:
    """One row of a sweep."""
    return {"evaluations": evaluations, **metric}


def test_the_winner_is_the_cheapest_near_the_best() -> None:
    """A share for shares, decibels for decibels; among equally cheap ones the better."""
    rows = [row(16, top5=0.80), row(8, top5=0.765), row(8, top5=0.77), row(4, top5=0.75)]
    assert winner(rows, "top5", 0.05) == row(8, top5=0.77)
    assert winner(rows, "top5", 0.07) == row(4, top5=0.75)
    rows = [row(4, psnr_db=30.0), row(2, psnr_db=29.71), row(1, psnr_db=29.6)]
    assert winner(rows, "psnr_db", 0.3) == row(2, psnr_db=29.71)


def test_every_combination_once() -> None:
    """One step knows no stochastic sampler; a student keeps to its own steps."""
    grid = Grid(steps=(1, 2), guidance=(1.0, 2.0), pictures=1, tolerance=0.1)
    settings = grid.settings(None)
    assert len(settings) == len(set(settings)) == 2 + 4
    assert {s.steps for s in grid.settings(8)} == {8}


def test_the_defaults_are_among_what_is_tried() -> None:
    """Whoever changes one changes the other: a sweep must be able to confirm the defaults."""
    for stage, grid in GRIDS.items():
        if stage == "base":
            continue  # teachers take more steps than students are swept at
        chosen = SAMPLING[stage]
        assert chosen.steps in grid.steps
        assert chosen.augmentation in grid.augmentation


def test_a_sweep_in_miniature(tmp_path: Path) -> None:
    """Rows for every setting, evaluations counted, the plot drawn."""
    base = subject(replace(TINY_BASE, resolution=8, crop=8), 1)
    tried = subject(TINY_SR, 2)
    grid = Grid(steps=(1, 2), augmentation=(0.0, 0.1), pictures=2, tolerance=0.3)
    score = upscaling_score("sr256", Opened((tried,), {"base": base}), tiny_dataset(), 2)
    said: list[str] = []
    rows = sweep([tried], grid, score, said.append)
    assert [(r["steps"], r["sampler"], r["evaluations"]) for r in rows[:3]] == [
        (1, "ddim", 1), (1, "ddim", 1), (2, "ddim", 2),
    ]  # fmt: skip
    assert len(rows) == len(said) == 6
    chosen = winner(rows, "psnr_db", 0.3)
    plot_sweep(rows, chosen, "psnr_db", tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


class Knowing:
    """An engine that knows the picture: answers the v that leads straight to it."""

    def __init__(self, picture: ImageU8) -> None:
        self.picture = picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`x0 = alpha x_t - sigma v` with the cosine schedule's own angle, solved for v."""
        schedule, t = make_schedule("cosine"), inputs["t"].astype(np.float64)
        alpha, sigma = float(schedule.alpha(t)[0]), float(schedule.sigma(t)[0])
        return {"prediction": (alpha * inputs["x_t"] - self.picture) / sigma}


@pytest.mark.parametrize("seed", [0, 3])
def test_a_perfect_base_stage_redraws_the_truth(seed: int) -> None:
    """What comes back is the picture; a network that answers zero gives a noisy, shrunken one."""
    picture = tiny_dataset().picture(seed, 256)
    base = subject(TINY_BASE, 1)
    perfect = replace(base, engine=Knowing(picture))
    assert np.abs(redrawn(perfect, picture, CONTEXT).astype(int) - picture).max() <= 1
    blind = replace(base, engine=TorchEngine(Recorder(), "prediction"))
    assert psnr_db(redrawn(blind, picture, CONTEXT), picture) < 25
