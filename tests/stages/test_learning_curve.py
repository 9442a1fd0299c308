"""The curve of quality against samples: its law, what that foretells, and a run in small."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base_quality import make_judge
from benchmarks.learning_curve import WANTED, forecast, kept_networks, law_of
from benchmarks.lib.plots import plot_learning
from benchmarks.lib.prompt_lists import PromptQuestion
from benchmarks.sweep_subjects import JudgedPrompts, SweepSubject, base_score
from cascade.diffusion.request_options import DiffusionOptions
from stages.data.loader import Loader
from stages.evaluation.probe import Probe
from stages.evaluation.sampling import torch_spec
from stages.evaluation.torch_engine import TorchEngine
from stages.training.trained_network import load_network
from stages.training.trainer import TrainOptions, open_trainer
from tests.support.tiny_training import TINY_BASE, WIDTH, stirred, tiny_dataset


def test_a_power_law_is_found_again() -> None:
    """Shares that follow one give its numbers back, and the samples at which a share is reached."""
    samples = [1e5, 2e5, 4e5, 7e5]
    law = law_of(samples, [1 - 30.0 * n**-0.4 for n in samples])
    assert law is not None
    assert (law.scale, law.power) == pytest.approx((30.0, 0.4))
    assert law.samples_for(1 - 30.0 * 3e6**-0.4) == pytest.approx(3e6)


def test_too_little_for_a_law() -> None:
    """Two points, or points that are all right, or all at one place, carry none."""
    assert law_of([1e5, 2e5], [0.5, 0.6]) is None
    assert law_of([1e5, 2e5, 3e5, 4e5], [0.5, 1.0, 1.0, 0.9]) is None
    assert law_of([1e5] * 3, [0.5, 0.6, 0.7]) is None


def test_what_does_not_get_better_is_never_reached() -> None:
    """Shares that fall have no samples after which they would be right."""
    law = law_of([1e5, 2e5, 4e5], [0.6, 0.5, 0.4])
    assert law is not None
    assert math.isinf(law.samples_for(0.95))
    rows = [{"samples": n, **dict.fromkeys(WANTED, 0.9 - n * 1e-7)} for n in (100, 200, 300)]
    assert {found["samples"] for found in forecast(rows, 0).values()} == {None}


def test_samples_of_before_are_counted() -> None:
    """The law is one of all samples, also of those before the rows."""
    counted = [3e5, 4e5, 6e5]
    rows = [
        {"samples": n - 2e5, **dict.fromkeys(WANTED, 1 - 90.0 * n**-0.5)} for n in counted
    ]  # fmt: skip
    found = forecast(rows, 200_000)
    for name, share in WANTED.items():
        assert found[name]["power"] == 0.5
        assert found[name]["samples"] == pytest.approx((90.0 / (1 - share)) ** 2, rel=1e-6)


def test_networks_are_kept_while_training(tmp_path: Path) -> None:
    """Of a run that keeps at every step: one folder per step, in order, none overwritten."""
    options = TrainOptions(folder=tmp_path, steps=12, keep_minutes=1e-9)
    run = open_trainer(TINY_BASE, Loader(tiny_dataset(), TINY_BASE), options)
    for _ in run.run():
        pass
    kept = kept_networks(tmp_path, TINY_BASE.name)
    batch = TINY_BASE.batch
    assert [folder.name for folder in kept] == [
        f"{TINY_BASE.name}.at.{n * batch}" for n in range(12)
    ]
    first, last = (load_network(TINY_BASE, kept[n]).conv_out.weight for n in (0, -1))
    assert not np.array_equal(first.numpy(), last.numpy())


def test_scores_of_captions_and_keywords(tmp_path: Path) -> None:
    """Both kinds are drawn and judged; the plot is drawn."""
    data = tiny_dataset()
    names = [example.icon for example in data.examples if not example.held_out]
    judged = make_judge(Probe(len(names)).eval(), names, data, 32)
    context = np.ones((3, WIDTH), np.float16)
    asked = {
        kind: JudgedPrompts(
            [PromptQuestion("p", icon, "noto") for icon in icons], [context] * len(icons)
        )
        for kind, icons in (("captions", names[:3]), ("keywords", names[:2]))
    }
    engine = TorchEngine(stirred(TINY_BASE.unet, 1), "prediction")
    subject = SweepSubject(name="base", position=1, spec=torch_spec(TINY_BASE), engine=engine)
    found = base_score(asked, judged)(subject.stage(), DiffusionOptions(steps=2, guidance=1.0))
    assert found["pictures"] == 3
    # Of four names the best five are all.
    assert found["top5"] == found["keywords_top5"] == 1.0
    rows = [{"samples": n, **{name: found[name] for name in WANTED}} for n in (10, 20)]
    plot_learning(rows, WANTED, 5, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
