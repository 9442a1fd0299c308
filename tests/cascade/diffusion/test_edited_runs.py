"""Runs that begin with a picture or keep part of one: closed forms, and every sampler."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.guidance import ConstantGuidance
from cascade.diffusion.known_pixels import KnownPixels, noised
from cascade.diffusion.options import SamplingOptions
from cascade.diffusion.samplers.choice import SAMPLERS, SamplerInputs, sample
from cascade.diffusion.samplers.resampling import back, resampled
from cascade.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from cascade.diffusion.spec import SamplerKind, evaluations, repeated_evaluations
from cascade.edit import StageEdit
from cascade.numerics.noise import AGAIN, JUMP, START, normals
from cascade.types import Batch, PerSample

KINDS = pytest.mark.parametrize("kind", sorted(SAMPLERS))
REMEMBERING: tuple[SamplerKind, ...] = ("dpmpp_2m", "plms")
"""Samplers that use estimates of the steps before; both begin as DDIM does."""
FORGETFUL = pytest.mark.parametrize("kind", sorted(set(SAMPLERS) - set(REMEMBERING)))
STEPS = 5
SHAPE = (1, 3, 4, 4)
PICTURE = np.linspace(-1, 1, 48, dtype=np.float32).reshape(SHAPE)
MADE = np.zeros((4, 4), bool)
MADE[1:3, 2:] = True
SMALL = np.zeros((4, 4, 3), np.uint8)


def draw(step: int) -> Batch:
    """Standard normal noise of a step."""
    return normals(SHAPE, seed=1, image=0, stage=0, step=step)


def shrinking(step: int) -> Denoiser:
    """An estimate that depends on the step, and on every pixel of what it sees."""

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        del t
        mean = x_t.mean(dtype=np.float64)
        return Estimate(np.tanh(x_t * np.float32(0.5) + np.float32(mean + 0.1 * (step % AGAIN))))

    return denoise


def inputs(steps: int = STEPS) -> SamplerInputs:
    """A run from noise."""
    schedule = CosineSchedule()
    return SamplerInputs(
        denoise=shrinking,
        start=draw(START),
        schedule=schedule,
        times=schedule.timesteps(steps),
        noise=draw,
        gamma=0.5,
    )


@pytest.mark.parametrize(
    ("steps", "strength", "skipped"),
    [(8, 1.0, 0), (8, 0.0, 8), (8, 0.7, 3), (8, 0.01, 7), (50, 0.8, 10), (100, 0.29, 71),
     (1, 0.5, 0), (3, 0.999, 1)],
)  # fmt: skip
def test_a_strength_is_a_share_of_the_steps(steps: int, strength: float, skipped: int) -> None:
    """Rounded down as diffusers does (`int(steps * strength)`), to one step at least, 0 to none."""
    edit = StageEdit(SMALL, None, strength)
    plan = SamplingOptions(steps=steps, weight=ConstantGuidance(1.0), augmentation=0.0, edit=edit)
    assert plan.skipped == skipped
    assert plan.evaluations == steps - skipped
    assert replace(plan, edit=replace(edit, resample=3)).evaluations == 3 * (steps - skipped)


@FORGETFUL
def test_the_rest_of_a_run_is_that_run(kind: SamplerKind) -> None:
    """Begun with what the run had come to: same guidance, same noise, same pictures."""
    whole = list(sample(kind, inputs()))
    for done in (0, 1, 3):
        asked = evaluations(kind, STEPS) - evaluations(kind, STEPS - done)
        x = whole[asked - 1].x_t if done else draw(START)
        rest = list(sample(kind, inputs().after(done, x)))
        for one, other in zip(whole[asked:], rest, strict=True):
            np.testing.assert_array_equal(one.x_t, other.x_t)
            np.testing.assert_array_equal(one.x0, other.x0)


@KINDS
def test_steps_taken_once_are_the_sampler_s_own(kind: SamplerKind) -> None:
    """And taken twice, each is another one from noise of its own."""
    # Every step of a sampler that remembers an estimate is a first one here: a step of DDIM.
    alike: dict[SamplerKind, SamplerKind] = {"dpmpp_2m": "ddim", "plms": "ddim_final_step"}
    own = alike.get(kind, kind)
    for one, other in zip(sample(own, inputs()), resampled(kind, inputs(), 1), strict=True):
        assert (one.index, one.total) == (other.index, other.total)
        np.testing.assert_array_equal(one.x_t, other.x_t)
    drawn: list[int] = []

    def noise(step: int) -> Batch:
        drawn.append(step)
        return draw(step)

    twice = list(resampled(kind, replace(inputs(), noise=noise), 2))
    total = 2 * repeated_evaluations(kind, STEPS)
    assert [(s.index, s.total) for s in twice] == [(n, total) for n in range(1, total + 1)]
    assert (twice[0].x_t != twice[1].x_t).any()
    assert len(drawn) == len(set(drawn))
    assert {JUMP, JUMP + 4} <= set(drawn)


@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()])
def test_noise_added_back_gives_the_spread_of_the_earlier_time(schedule: Schedule) -> None:
    """Of clean pictures and of noisy ones, exactly: signal and variance of `x_t`."""
    for s, t in ((0.0, 0.4), (0.2, 0.9)):
        zeros, ones = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
        alpha, sigma = (1.0, 0.0) if s == 0 else (schedule.alpha(s), schedule.sigma(s))
        kept = back(schedule, ones, s, t, zeros)[0, 0, 0, 0] * alpha
        added = back(schedule, zeros, s, t, ones)[0, 0, 0, 0]
        assert kept == pytest.approx(float(schedule.alpha(t)), rel=1e-5)
        spread = (kept / alpha * sigma) ** 2 + added**2
        assert spread == pytest.approx(float(schedule.sigma(t)) ** 2, rel=1e-5)


class Watched:
    """A run with known pixels, and what its network saw."""

    def __init__(self, picture: Batch) -> None:
        self.picture = picture
        self.seen: list[tuple[Batch, float, int]] = []

    def at(self, step: int) -> Denoiser:
        """The denoiser of one step."""
        inner = shrinking(step)

        def denoise(x_t: Batch, t: PerSample) -> Estimate:
            self.seen.append((x_t, float(t[0]), step))
            return inner(x_t, t)

        return KnownPixels(denoise, CosineSchedule(), self.picture, MADE, draw(1000 + step))


@KINDS
def test_known_pixels_are_seen_noised_and_come_out_as_they_are(kind: SamplerKind) -> None:
    """At every step of every sampler, and the others depend on them."""
    found = []
    for picture in (PICTURE, -PICTURE):
        watched = Watched(picture)
        steps = list(sample(kind, replace(inputs(), denoise=watched.at)))
        for x_t, t, number in watched.seen:
            noise = draw(1000 + number)
            known = noised(CosineSchedule(), picture, np.float64(np.float32(t)), noise)
            np.testing.assert_array_equal(x_t[..., ~MADE], known[..., ~MADE])
        for step in steps:
            np.testing.assert_array_equal(step.x0[..., ~MADE], picture[..., ~MADE])
        asked = [number for *_, number in watched.seen]
        assert sorted(set(asked)) == list(range(STEPS))
        assert len(asked) == evaluations(kind, STEPS)
        found.append(steps[-1].x_t[..., MADE])
    assert (found[0] != found[1]).all()
