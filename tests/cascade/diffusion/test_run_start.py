"""Runs that start in the middle of their schedule: what they lose, and that it is said."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.manifest import Manifest
from cascade.commands.inspect_verify import describe
from cascade.diffusion.denoiser import Estimate
from cascade.diffusion.options import resolve_options
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.run_start import LARGEST_SIGNAL, late_start
from cascade.diffusion.samplers.ddim import ddim
from cascade.diffusion.schedule import Schedule, TableSpec, make_schedule
from cascade.diffusion.spacing import Spacing, listed_times
from cascade.errors import InvalidRequest
from cascade.families import warnings_of
from cascade.numerics.noise import START, normals
from cascade.request import GenerateRequest
from cascade.types import Batch, PerSample
from runtime_client.request_checks import check_request
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import write_tiny_bundle

PIXELS = 3 * 64 * 64
BRIGHTNESS = 0.5
"""Standard deviation of a picture's mean over the data, of [-1, 1]."""


def cosine_table(spacing: Spacing, offset: int = 0) -> TableSpec:
    """The published cosine schedule of 1000 steps, betas capped at 0.999."""

    def power(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    left, powers = 1.0, []
    for step in range(1000):
        left *= 1 - min(1 - power((step + 1) / 1000) / power(step / 1000), 0.999)
        powers.append(left)
    return TableSpec(alpha_bar=tuple(powers), spacing=spacing, offset=offset)


@pytest.fixture
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The tiny bundle with a tabulated base stage of a thousand steps."""
    tiny = write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest
    base = replace(stages_of(tiny)[0], schedule=cosine_table("leading"), steps=27)
    return with_stages(tiny, (base, *stages_of(tiny)[1:]))


def brightness_kept(schedule: Schedule, first: float) -> float:
    """Spread of the pictures' means after a run from noise, as a share of the data's.

    The mean over the pixels of a picture is a process of its own, with noise less by the square
    root of their number; where the data's means are normal, the ideal estimate is linear in it.

    Args:
        schedule: of a thousand steps.
        first: time where the run starts; it then takes every training step.
    """
    start = normals((1, 3, 24, 24), seed=1, image=0, stage=0, step=START) / np.sqrt(PIXELS)

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        alpha, sigma = (float(f(np.float64(t[0]))) for f in (schedule.alpha, schedule.sigma))
        gain = alpha * BRIGHTNESS**2 / (alpha**2 * BRIGHTNESS**2 + sigma**2 / PIXELS)
        return Estimate(np.asarray(gain * x_t, np.float32))

    times = listed_times(1000, range(round(1000 * first) - 1, -1, -1))
    *_, last = ddim(lambda _: denoise, np.asarray(start, np.float32), schedule, times)
    return float(last.x_t.std() / BRIGHTNESS)


@pytest.mark.parametrize(
    ("first", "signal", "kept"),
    [(0.601, 0.340, 0.031), (0.751, 0.143, 0.048), (0.901, 0.0234, 0.117), (0.963, 0.0033, 0.299)],
)
def test_a_late_start_makes_all_pictures_equally_bright(
    first: float, signal: float, kept: float
) -> None:
    """The table of the documents: 1 / sqrt(1 + signal (b^2 n - 1)) of the spread is left."""
    schedule = make_schedule(cosine_table("leading"))
    assert float(schedule.alpha(first)) ** 2 == pytest.approx(signal, rel=0.02)
    assert brightness_kept(schedule, first) == pytest.approx(kept, rel=0.05)
    assert 1 / math.sqrt(1 + signal * (BRIGHTNESS**2 * PIXELS - 1)) == pytest.approx(kept, rel=0.02)


@pytest.mark.parametrize(
    ("spacing", "steps", "warned"),
    [
        ("leading", 1, True),
        ("leading", 10, True),
        ("leading", 15, True),
        ("leading", 20, False),
        ("leading", 100, False),
        ("leading", 501, True),
        ("leading", 600, True),
        ("leading", 999, False),
        ("linspace", 1, True),
        ("linspace", 2, False),
        ("trailing", 1, False),
    ],
)
def test_a_warning_where_the_start_is_not_nearly_noise(
    manifest: Manifest, spacing: Spacing, steps: int, *, warned: bool
) -> None:
    """It names the stage, the steps, the time and the power that is missing there."""
    spec = replace(stages_of(manifest)[0], schedule=cosine_table(spacing))
    found = late_start(spec, steps)
    assert (found is not None) == warned
    if found is not None:
        assert found.signal > LARGEST_SIGNAL
        words = f"base: a run of {steps} steps starts at time {found.time:.3f}"
        assert str(found).startswith(words)


def test_half_the_steps_of_a_stride_of_one_start_half_way(manifest: Manifest) -> None:
    """600 of 1000 steps by a whole stride are the cleanest 600."""
    found = late_start(stages_of(manifest)[0], 600)
    assert found is not None
    assert found.time == 0.6
    assert found.signal == pytest.approx(
        math.cos((0.6 + 0.008) / 1.008 * math.pi / 2) ** 2, rel=1e-3
    )


def test_schedules_of_rules_start_at_the_noisy_end(manifest: Manifest) -> None:
    """Cosine and linear runs of any length need no warning."""
    for schedule in ("cosine", "linear"):
        spec = replace(stages_of(manifest)[0], schedule=schedule)
        assert [late_start(spec, steps) for steps in (1, 2, 7, 600)] == [None] * 4


def test_a_list_of_steps_is_judged_by_its_first(manifest: Manifest) -> None:
    """The default run of a stage may be a list that starts late."""
    base = stages_of(manifest)[0]
    assert late_start(replace(base, timesteps=(999, 0), steps=2), 2) is None
    assert late_start(replace(base, timesteps=(500, 0), steps=2), 2) is not None


def test_a_request_is_warned_about_the_stages_that_it_runs(manifest: Manifest) -> None:
    """Its own steps or the defaults, up to its last stage."""
    late = replace(stages_of(manifest)[1], schedule=cosine_table("leading"), steps=3)
    both = with_stages(manifest, (stages_of(manifest)[0], late, *stages_of(manifest)[2:]))

    def warned(**fields: object) -> list[str]:
        request = GenerateRequest(prompt="a", **fields)  # type: ignore[arg-type]
        checked = check_request(both, request)
        ran = [both.components[position] for position in checked.positions]
        return [found.stage for found in warnings_of(ran, checked.request)]

    few = {"base": DiffusionOptions(steps=5)}
    assert warned() == ["sr16"]
    assert warned(options=few) == ["base", "sr16"]
    assert warned(options=few, last_stage="base") == ["base"]
    assert warned(last_stage="base") == []


def test_inspect_shows_the_warning_of_a_default_run(manifest: Manifest) -> None:
    """A line of the stage, and none where there is nothing to say."""
    assert not [line for line in describe(stages_of(manifest)[0]) if "warning" in line]
    (line,) = [w for w in describe(replace(stages_of(manifest)[0], steps=4)) if "warning" in w]
    assert "a run of 4 steps starts at time 0.751" in line


def test_steps_that_an_offset_takes_past_the_end_are_refused_early(manifest: Manifest) -> None:
    """Before the stages in front of it have run, naming the option."""
    spec = replace(stages_of(manifest)[0], schedule=cosine_table("leading", offset=3))
    with pytest.raises(InvalidRequest, match="offset of 3") as caught:
        resolve_options(spec, DiffusionOptions(steps=500))
    assert caught.value.field == "options.base.steps"
