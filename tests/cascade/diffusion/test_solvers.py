"""Euler, Heun, DPM-Solver++ (2M) and rectified flow: orders of convergence, and what each asks.

On Gaussian data the probability flow is known in closed form: it keeps the standardised value, so
noise at `z` deviations ends at `mean + std z` whatever the schedule.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.manifest import Manifest
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.denoiser import Estimate
from cascade.diffusion.family import DiffusionFamily
from cascade.diffusion.options import resolve_options
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.samplers.choice import SamplerInputs, first_step, sample
from cascade.diffusion.samplers.ddim import ddim_step
from cascade.diffusion.samplers.resampling import resampled
from cascade.diffusion.schedule import CosineSchedule, Schedule, make_schedule
from cascade.diffusion.spec import SamplerKind, evaluations
from cascade.edit import StageEdit
from cascade.graph_spec import NET
from cascade.numerics.noise import START, normals
from cascade.types import Batch, PerSample, Times
from tests.cascade.diffusion.test_samplers import FakeDenoiser, ideal, variance_at
from tests.support.manifests import stages_of
from tests.support.tiny_bundle import write_tiny_bundle

MEAN, STD = 0.3, 0.5
SHAPE = (2, 3, 2, 4)
COSINE = CosineSchedule()
FLOW = make_schedule(FlowSpec(kind="flow"))
EDM = make_schedule(SigmaSpec(kind="sigmas", rule="karras", lowest=0.002, highest=80.0))
SOLVERS: tuple[SamplerKind, ...] = ("euler", "heun", "dpmpp_2m")
Z = np.array([-2.0, -0.5, 0.0, 1.0, 2.5]).reshape(-1, 1, 1, 1)


def exact(schedule: Schedule, t: float) -> Batch:
    """Where the flow is at a time, for the values `Z`, float64."""
    time = np.float64(t)
    return schedule.alpha(time) * MEAN + math.sqrt(variance_at(schedule, time, STD)) * Z


def inputs_of(schedule: Schedule, times: Times, start: Batch) -> SamplerInputs:
    """A run of the ideal denoiser."""
    return SamplerInputs(
        denoise=ideal(schedule, STD), start=start.astype(np.float32), schedule=schedule,
        times=times, noise=no_noise, gamma=0.0,
    )  # fmt: skip


def no_noise(step: int) -> Batch:
    """No solver draws any."""
    raise AssertionError(step)


def flow_error(kind: SamplerKind, schedule: Schedule, ends: tuple[float, float], n: int) -> float:
    """Largest distance from the flow after `n` steps between two times, the later one first."""
    # A last step to time 0 takes the estimate itself: the order is that of the steps before.
    times = np.append(np.linspace(*ends, n + 1), 0.0)
    states = list(sample(kind, inputs_of(schedule, times, exact(schedule, ends[0]))))
    return float(np.abs(states[evaluations(kind, n + 1) - 2].x_t - exact(schedule, ends[1])).max())


@pytest.mark.parametrize(
    ("kind", "order"), [("euler", 1.0), ("heun", 2.0), ("dpmpp_2m", 2.0)], ids=SOLVERS
)
@pytest.mark.parametrize(
    ("schedule", "ends"),
    [(COSINE, (0.95, 0.1)), (FLOW, (0.9, 0.1)), (EDM, (0.8, 0.2))],
    ids=["cosine", "flow", "edm"],
)
def test_the_error_falls_with_the_order(
    kind: SamplerKind, order: float, schedule: Schedule, ends: tuple[float, float]
) -> None:
    """The slope of the error over the steps, both as logarithms: 1, 2 and 2."""
    steps = (32, 64, 128)
    errors = [flow_error(kind, schedule, ends, n) for n in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.12)
    assert errors[-1] < (0.02 if order == 1 else 5e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_rectified_flow_converges_with_first_order_from_pure_noise(shift: float) -> None:
    """From time 1, where no signal is left, to time 0: the slope is 1."""
    schedule = make_schedule(FlowSpec(kind="flow", shift=shift))
    errors = []
    for steps in (32, 64, 128):
        run = sample("euler", inputs_of(schedule, schedule.timesteps(steps), exact(schedule, 1.0)))
        *_, last = run
        errors.append(float(np.abs(last.x_t - (MEAN + STD * Z)).max()))
    slope = np.polyfit(np.log((32, 64, 128)), np.log(errors), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_start_without_signal_is_no_trouble(kind: SamplerKind) -> None:
    """From time 1 of a rectified flow every state is finite and near the flow."""
    times = FLOW.timesteps(40)
    *_, last = sample(kind, inputs_of(FLOW, times, exact(FLOW, 1.0)))
    np.testing.assert_allclose(last.x_t, MEAN + STD * Z, atol=0.1)


@pytest.mark.parametrize("schedule", [COSINE, EDM, FLOW], ids=["cosine", "edm", "flow"])
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.7), (0.4, 0.1)])
def test_euler_s_step_is_ddim_s(schedule: Schedule, t: float, s: float) -> None:
    """In `sigma / alpha`; and of a rectified flow the straight line `x + (s - t) u`."""
    x, x0 = draw(1), draw(2)
    at, to = np.float64(t), np.float64(s)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (float(schedule.alpha(time)), float(schedule.sigma(time))) for time in (at, to)
    )
    scaled = x.astype(np.float64) / alpha_t
    slope = (scaled - x0) / (sigma_t / alpha_t)
    expected = alpha_s * (scaled + slope * (sigma_s / alpha_s - sigma_t / alpha_t))
    found = ddim_step(schedule, x, x0, at, to)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if schedule is FLOW:
        straight = x + (s - t) * (x.astype(np.float64) - x0) / t
        np.testing.assert_allclose(found, straight, rtol=1e-5, atol=1e-5)


def test_heun_takes_the_mean_of_both_slopes() -> None:
    """Algorithm 1 of Karras et al. in its own words, double precision, one step."""
    t, s = np.float64(0.8), np.float64(0.5)
    x = draw(1)
    denoise = ideal(EDM, STD)(0)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (float(EDM.alpha(time)), float(EDM.sigma(time))) for time in (t, s)
    )
    low, high = sigma_s / alpha_s, sigma_t / alpha_t
    scaled = x.astype(np.float64) / alpha_t
    first = (scaled - denoise(x, np.full(2, t, np.float32)).x0) / high
    euler = scaled + (low - high) * first
    later = denoise((alpha_s * euler).astype(np.float32), np.full(2, s, np.float32)).x0
    expected = scaled + (low - high) * (first + (euler - later) / low) / 2
    inputs = inputs_of(EDM, np.array([t, s, 0.0]), x)
    states = list(sample("heun", inputs))
    np.testing.assert_allclose(states[0].x_t, alpha_s * euler, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(states[1].x_t, alpha_s * expected, rtol=1e-4, atol=1e-5)


def draw(step: int) -> Batch:
    """Standard normal noise of a step."""
    return normals(SHAPE, seed=1, image=0, stage=0, step=step)


def half(kind: SamplerKind, steps: int, fake: FakeDenoiser) -> SamplerInputs:
    """A run of a denoiser that halves what it sees."""
    times = COSINE.timesteps(steps)
    return replace(inputs_of(COSINE, times, draw(START)), denoise=fake.at)


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_evaluations_are_counted(kind: SamplerKind, steps: int) -> None:
    """As many states as the network is asked; Heun twice a step but the last, at both its times."""
    fake = FakeDenoiser()
    states = list(sample(kind, half(kind, steps, fake)))
    total = evaluations(kind, steps)
    assert total == (2 * steps - 1 if kind == "heun" else steps)
    assert [(s.index, s.total) for s in states] == [(i + 1, total) for i in range(total)]
    times = [float(np.float32(t)) for t in COSINE.timesteps(steps)]
    expected = []
    for step in range(steps):
        expected.append((step, times[step]))
        if kind == "heun" and step + 1 < steps:
            expected.append((step, times[step + 1]))
    assert [(step, asked[0]) for step, asked in fake.asked] == expected
    np.testing.assert_array_equal(states[-1].x_t, states[-1].x0)


@pytest.mark.parametrize("kind", SOLVERS)
def test_rows_and_parts_do_not_touch_each_other(kind: SamplerKind) -> None:
    """A batch gives each picture what it gets alone; a closed run asks no more."""
    *_, together = sample(kind, half(kind, 4, FakeDenoiser()))
    alone = replace(half(kind, 4, FakeDenoiser()), start=draw(START)[1:])
    *_, last = sample(kind, alone)
    np.testing.assert_array_equal(together.x_t[1:], last.x_t)
    fake = FakeDenoiser()
    run = sample(kind, half(kind, 4, fake))
    next(run)
    run.close()
    assert (list(run), len(fake.asked)) == ([], 1)


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("times", [1, 3])
def test_steps_may_be_taken_again(kind: SamplerKind, times: int) -> None:
    """Every evaluation of a step again, counted up to the same total; once is the plain run."""
    fake = FakeDenoiser()
    inputs = replace(half(kind, 3, fake), noise=draw)
    states = list(resampled(kind, inputs, times))
    total = times * evaluations(kind, 3)
    assert [(s.index, s.total) for s in states] == [(i + 1, total) for i in range(total)]
    assert len(fake.asked) == total
    assert len(list(first_step(kind, inputs))) == (2 if kind == "heun" else 1)
    if times == 1 and kind != "dpmpp_2m":
        *_, plain = sample(kind, inputs)
        np.testing.assert_array_equal(states[-1].x_t, plain.x_t)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest


def test_heun_s_cost_is_that_of_its_evaluations(tiny: Manifest) -> None:
    """Runs, units and pixels; an edit that leaves out steps costs those that are left."""
    family, base = DiffusionFamily(), replace(stages_of(tiny)[0], sampler="heun")
    plan = resolve_options(base, DiffusionOptions(steps=6))
    cost = family.cost(base, plan)
    assert (cost.runs[NET], cost.units, cost.pixels) == (11, 11, 11 * base.makes.pixels)
    edit = StageEdit(picture=np.zeros((8, 8, 3), np.uint8), strength=0.5)
    assert family.cost(base, replace(plan, edit=edit)).units == 5


def states_of(kind: SamplerKind) -> Iterator[Estimate]:
    """Estimates of a run on one image: all data are that image."""

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        del t
        return Estimate(np.full_like(x_t, MEAN))

    inputs = replace(half(kind, 5, FakeDenoiser()), denoise=lambda _: denoise)
    return (Estimate(state.x_t) for state in sample(kind, inputs))


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_single_image_is_reached_exactly(kind: SamplerKind) -> None:
    """When all data are one picture every solver's every step is exact."""
    times, noise = COSINE.timesteps(5), draw(START)
    # Every start is noise of the first time: what is not the picture's share of it is the noise.
    epsilon = (noise - float(COSINE.alpha(times[0])) * MEAN) / float(COSINE.sigma(times[0]))
    found = [estimate.x0 for estimate in states_of(kind)]
    kept = found[1::2] if kind == "heun" else found[:-1]
    for state, s in zip(kept, times[1:], strict=False):
        expected = float(COSINE.alpha(s)) * MEAN + float(COSINE.sigma(s)) * epsilon
        np.testing.assert_allclose(state, expected, atol=3e-5)
    np.testing.assert_array_equal(found[-1], np.float32(MEAN))
