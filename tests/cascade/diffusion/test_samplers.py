"""Samplers on Gaussian data, whose ideal denoiser and whose answers are known in closed form.

Where the data are `N(mean, std^2)` per pixel, `x_t` is `N(alpha mean, alpha^2 std^2 + sigma^2)`,
the posterior mean is linear in `x_t`, and so is every sampler. The exact distribution of its result
then follows from its answers to single impulses, without drawing samples: see `moments`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.samplers.ddim import ddim, ddim_step
from cascade.diffusion.samplers.ddpm import ddpm, posterior
from cascade.diffusion.samplers.sampling import DenoiserAt, NoiseAt, SamplerStep, times_of
from cascade.diffusion.samplers.stochastic import add_noise, stochastic
from cascade.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from cascade.numerics.noise import START, normals
from cascade.types import Batch, PerSample, Times

Sampler = Callable[[DenoiserAt, Batch, Schedule, Times, NoiseAt], Iterator[SamplerStep]]

COSINE, LINEAR = CosineSchedule(), LinearSchedule()
MEAN = 0.3
SHAPE = (3, 3, 2, 4)


def ddpm_at(gamma: float) -> Sampler:
    """DDPM with that stochasticity, in the signature of the other samplers."""
    return lambda denoise, x, schedule, times, noise: ddpm(
        denoise, x, schedule, times, noise, gamma
    )


def ddim_without_noise(
    denoise: DenoiserAt, x: Batch, schedule: Schedule, times: Times, noise: NoiseAt
) -> Iterator[SamplerStep]:
    """DDIM in the signature of the other samplers."""
    return ddim(denoise, x, schedule, times)


NOISY: dict[str, Sampler] = {
    "ddpm0": ddpm_at(0.0),
    "ddpm0.5": ddpm_at(0.5),
    "ddpm1": ddpm_at(1.0),
    "stochastic": stochastic,
}
SAMPLERS = pytest.mark.parametrize("name", ["ddim", *NOISY])
SCHEDULES = pytest.mark.parametrize("schedule", [COSINE, LINEAR], ids=["cosine", "linear"])


def sampler_of(name: str) -> Sampler:
    """The sampler of that name."""
    return {"ddim": ddim_without_noise, **NOISY}[name]


@dataclass
class FakeDenoiser:
    """Halves what it sees and keeps at which step and time it was asked."""

    asked: list[tuple[int, list[float]]] = field(default_factory=list)

    def at(self, step: int) -> Denoiser:
        """The denoiser of one step."""

        def denoise(x_t: Batch, t: PerSample) -> Estimate:
            self.asked.append((step, t.tolist()))
            return Estimate(np.float32(0.5) * x_t)

        return denoise


def draw(step: int) -> Batch:
    """Standard normal noise of a step."""
    return normals(SHAPE, seed=1, image=0, stage=0, step=step)


def variance_at(schedule: Schedule, t: Times, std: float) -> float:
    """Variance of `x_t` when the data have standard deviation `std`."""
    return float(schedule.alpha(t) ** 2 * std**2 + schedule.sigma(t) ** 2)


def ideal(schedule: Schedule, std: float) -> DenoiserAt:
    """The posterior mean of Gaussian data, at every step."""

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        alpha, sigma = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return Estimate(np.asarray(MEAN + gain * (x_t - alpha * MEAN), np.float32))

    return lambda _step: denoise


def moments(
    sampler: Sampler, schedule: Schedule, times: Times, std: float
) -> list[tuple[float, float]]:
    """Exact mean and variance of `x_t` after every step, for the ideal denoiser.

    Pixels of one picture, since samplers compute each on its own and times once per picture. Pixel
    0 is without any noise: the mean. Pixel 1 starts one standard deviation off, pixel `k + 2` gets
    a unit of noise at step `k` alone; squared distances from pixel 0 sum to the variance.
    """
    start = times[0]
    x = np.full((1, 1, 1, len(times) + 1), schedule.alpha(start) * MEAN, np.float32)
    x[..., 1] += np.float32(math.sqrt(variance_at(schedule, start, std)))

    def impulse(step: int) -> Batch:
        noise = np.zeros_like(x)
        noise[..., step + 2] = 1
        return noise

    rows = [
        state.x_t.reshape(-1).astype(np.float64)
        for state in sampler(ideal(schedule, std), x, schedule, times, impulse)
    ]
    return [(float(row[0]), float(np.sum((row[1:] - row[0]) ** 2))) for row in rows]


def variance_error(sampler: Sampler, schedule: Schedule, std: float, steps: int) -> float:
    """How far the variance of the result is from that of the data."""
    times = np.linspace(1.0, 0.0, steps + 1)
    return abs(moments(sampler, schedule, times, std)[-1][1] - std**2)


def flow_error(schedule: Schedule, std: float, steps: int) -> float:
    """Largest distance of DDIM's results from the exact probability-flow map.

    The flow keeps the standardised value `z`: noise at `z` deviations ends at `mean + std z`.
    """
    z = np.array([-2.0, -0.5, 0.0, 1.0, 2.5]).reshape(-1, 1, 1, 1)
    times = np.linspace(1.0, 0.0, steps + 1)
    x = schedule.alpha(times[0]) * MEAN + math.sqrt(variance_at(schedule, times[0], std)) * z
    *_, last = ddim(ideal(schedule, std), x.astype(np.float32), schedule, times)
    return float(np.abs(last.x_t - (MEAN + std * z)).max())


@SCHEDULES
@pytest.mark.parametrize("std", [0.5, 2.0])
def test_ddim_converges_to_the_flow_with_first_order(schedule: Schedule, std: float) -> None:
    """Doubling the steps halves the distance from the exact probability-flow map."""
    coarse, middle, fine = (flow_error(schedule, std, steps) for steps in (64, 128, 256))
    assert 1.9 < coarse / middle < 2.05
    assert 1.9 < middle / fine < 2.05
    assert fine < 0.035 * std


@pytest.mark.parametrize("steps", [1, 4, 25])
def test_ddim_on_unit_data_shrinks_by_the_cosine_of_its_step(steps: int) -> None:
    """For N(0, 1) data a cosine step of angle h multiplies x by cos h, the last one by alpha."""
    times = COSINE.timesteps(steps)
    step = (COSINE.angle(np.float64(1.0)) - COSINE.angle(np.float64(0.0))) / steps
    x = draw(START)

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        return Estimate(np.float32(COSINE.alpha(t))[:, None, None, None] * x_t)

    *_, last = ddim(lambda _step: denoise, x, COSINE, times)
    shrink = math.cos(step) ** (steps - 1) * float(COSINE.alpha(times[-2]))
    # Each step rounds to float32 a few times.
    np.testing.assert_allclose(last.x_t, shrink * x, rtol=3e-7 * (steps + 1))


@SCHEDULES
@pytest.mark.parametrize("steps", [2, 9])
def test_ddim_is_exact_for_a_single_image(schedule: Schedule, steps: int) -> None:
    """When all data are one image, each step keeps the noise of the first and ends at the image."""
    times, epsilon = np.linspace(1.0, 0.0, steps + 1), draw(START)
    x = schedule.alpha(times[0]) * MEAN + schedule.sigma(times[0]) * epsilon
    states = list(ddim(ideal(schedule, 0.0), x.astype(np.float32), schedule, times))
    for state, s in zip(states[:-1], times[1:], strict=False):
        expected = schedule.alpha(s) * MEAN + schedule.sigma(s) * epsilon
        np.testing.assert_allclose(state.x_t, expected, atol=1e-5)
    np.testing.assert_array_equal(states[-1].x_t, np.float32(MEAN))


@SCHEDULES
def test_ddim_step_forward_and_back_is_the_identity(schedule: Schedule) -> None:
    """With the same estimate, a step to another time and back restores the image."""
    x, x0 = draw(0), draw(1)
    t, s = np.float64(0.7), np.float64(0.4)
    there = ddim_step(schedule, x, x0, t, s)
    assert there.dtype == np.float32
    np.testing.assert_allclose(ddim_step(schedule, there, x0, s, t), x, atol=1e-5)


@pytest.mark.parametrize("step", [2, 3, 100, 500, 1000])
def test_posterior_is_the_discrete_formula(step: int) -> None:
    """A training step of the linear schedule is eq. 7 of Ho et al., from betas in plain Python."""
    betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    beta = betas[step - 1]
    before = math.prod(1 - b for b in betas[: step - 1])
    after = before * (1 - beta)
    t, s = np.float64(step / 1000), np.float64((step - 1) / 1000)
    lower, upper = posterior(LINEAR, t, s, 0.0), posterior(LINEAR, t, s, 1.0)
    from_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - after)
    assert lower.from_x0 == pytest.approx(math.sqrt(before) * beta / (1 - after), rel=1e-8)
    assert lower.from_x_t == pytest.approx(from_x_t, rel=1e-8)
    assert math.exp(lower.log_variance) == pytest.approx(
        beta * (1 - before) / (1 - after), rel=1e-8
    )
    assert math.exp(upper.log_variance) == pytest.approx(beta, rel=1e-8)


@SCHEDULES
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.9), (0.6, 0.1), (0.02, 0.01)])
def test_posterior_takes_the_marginal_of_t_to_that_of_s(
    schedule: Schedule, t: float, s: float
) -> None:
    """Averaged over `x_t`, the posterior of an image has mean alpha_s x0, variance sigma_s^2."""
    now, then = np.float64(t), np.float64(s)
    step = posterior(schedule, now, then, 0.0)
    mean = step.from_x0 + step.from_x_t * schedule.alpha(now)
    variance = (step.from_x_t * schedule.sigma(now)) ** 2 + math.exp(step.log_variance)
    assert mean == pytest.approx(schedule.alpha(then), rel=1e-9)
    assert variance == pytest.approx(schedule.sigma(then) ** 2, rel=1e-9)


@SCHEDULES
@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.9])
def test_posterior_interpolates_the_log_variance(schedule: Schedule, gamma: float) -> None:
    """The variance lies between its bounds, its log in proportion to gamma; the mean stays."""
    t, s = np.float64(0.8), np.float64(0.5)
    lower, between, upper = (posterior(schedule, t, s, g) for g in (0.0, gamma, 1.0))
    assert lower.log_variance < between.log_variance < upper.log_variance
    share = (between.log_variance - lower.log_variance) / (upper.log_variance - lower.log_variance)
    assert share == pytest.approx(gamma, rel=1e-9)
    assert (between.from_x0, between.from_x_t) == (lower.from_x0, lower.from_x_t)


@SCHEDULES
@pytest.mark.parametrize("steps", [3, 8])
@pytest.mark.parametrize(("name", "std"), [("ddpm0", 0.0), ("ddpm1", 1.0), ("stochastic", 0.0)])
def test_every_marginal_is_exact_where_theory_says_so(
    name: str, std: float, schedule: Schedule, steps: int
) -> None:
    """With any number of steps: the lower variance for one image, the upper one for unit data."""
    times = np.linspace(1.0, 0.0, steps + 1)
    states = moments(NOISY[name], schedule, times, std)
    for (mean, variance), s in zip(states[:-1], times[1:], strict=False):
        assert mean == pytest.approx(schedule.alpha(s) * MEAN, abs=1e-5)
        assert variance == pytest.approx(variance_at(schedule, s, std), rel=1e-5)


@SCHEDULES
@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("std", [0.5, 2.0])
def test_variance_converges_with_first_order(name: str, std: float, schedule: Schedule) -> None:
    """Doubling the steps halves the error of the result's variance."""
    coarse, fine = (variance_error(NOISY[name], schedule, std, steps) for steps in (128, 256))
    assert 1.8 < coarse / fine < 2.05


@SCHEDULES
@pytest.mark.parametrize("name", NOISY)
def test_marginals_are_preserved_along_the_run(name: str, schedule: Schedule) -> None:
    """With many steps `x_t` has at every time the mean and variance of the forward process."""
    times, std = np.linspace(1.0, 0.0, 257), 0.5
    for (mean, variance), s in zip(
        moments(NOISY[name], schedule, times, std), times[1:], strict=True
    ):
        assert mean == pytest.approx(schedule.alpha(s) * MEAN, abs=1e-4)
        # First order in the step: 256 steps leave up to 6 % where the schedule is steepest.
        assert variance == pytest.approx(variance_at(schedule, s, std), rel=0.07)


@pytest.mark.parametrize("name", NOISY)
def test_samples_have_the_moments_of_the_data(name: str) -> None:
    """Drawn with the project's own noise, samples have the mean and deviation of the data."""
    shape, steps, std = (4, 3, 64, 64), 200, 0.5
    count = math.prod(shape)

    def noise(step: int) -> Batch:
        return normals(shape, seed=5, image=0, stage=0, step=step)

    x = np.float32(COSINE.alpha(np.float64(1.0)) * MEAN) + noise(START)
    *_, last = NOISY[name](ideal(COSINE, std), x, COSINE, COSINE.timesteps(steps), noise)
    # Five standard errors each; 200 steps leave no bias in the mean and 2 % in the deviation.
    assert last.x_t.mean(dtype=np.float64) == pytest.approx(MEAN, abs=5 * std / math.sqrt(count))
    assert last.x_t.std(dtype=np.float64) == pytest.approx(std, rel=0.02 + 5 / math.sqrt(2 * count))


@SCHEDULES
def test_stochastic_goes_two_steps_ahead_and_one_back(schedule: Schedule) -> None:
    """For one image and no fresh noise, a step scales the old noise as two ahead, one back does."""
    times, x, std = np.linspace(1.0, 0.0, 6), draw(START), 0.0
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    noise = sigma[0] * x
    states = list(
        stochastic(
            ideal(schedule, std),
            (alpha[0] * MEAN + noise).astype(np.float32),
            schedule,
            times,
            lambda _step: np.zeros_like(x),
        )
    )
    for index, state in enumerate(states[:-1]):
        ahead = sigma[index + 2] / sigma[index] * noise
        noise = alpha[index + 1] / alpha[index + 2] * ahead
        # The cosine schedule's floor of noise at time 0, 4.5e-5, is dropped by the sampler.
        np.testing.assert_allclose(state.x_t, alpha[index + 1] * MEAN + noise, atol=2e-4)


@SCHEDULES
@pytest.mark.parametrize(("s", "t"), [(0.0, 0.3), (0.2, 0.7), (0.9, 1.0)])
def test_add_noise_is_the_forward_process(schedule: Schedule, s: float, t: float) -> None:
    """From s to t: the signal falls by alpha_t / alpha_s and sigma_s^2 grows to sigma_t^2."""
    ones, zeros = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    early, late = np.float64(s), np.float64(t)
    kept = float(add_noise(schedule, ones, early, late, zeros)[0, 0, 0, 0])
    added = float(add_noise(schedule, zeros, early, late, ones)[0, 0, 0, 0])
    assert kept * schedule.alpha(early) == pytest.approx(schedule.alpha(late), rel=1e-6)
    variance = (kept * schedule.sigma(early)) ** 2 + added**2
    assert variance == pytest.approx(schedule.sigma(late) ** 2, rel=1e-6)


@SCHEDULES
def test_add_noise_twice_is_add_noise_once(schedule: Schedule) -> None:
    """Two moves forward add the variances that one move over both adds."""
    ones, zeros = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    a, b, c = (np.float64(t) for t in (0.1, 0.4, 0.8))
    first = add_noise(schedule, add_noise(schedule, zeros, a, b, ones), b, c, zeros)
    second = add_noise(schedule, zeros, b, c, ones)
    once = add_noise(schedule, zeros, a, c, ones)
    np.testing.assert_allclose(first**2 + second**2, once**2, rtol=1e-5)


@SAMPLERS
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_one_denoising_per_step_at_its_time(name: str, steps: int) -> None:
    """A run of n steps asks the denoiser n times, of step i at time i, for the whole batch."""
    fake, times = FakeDenoiser(), COSINE.timesteps(steps)
    states = list(sampler_of(name)(fake.at, draw(START), COSINE, times, draw))
    expected = [(i, [float(np.float32(t))] * SHAPE[0]) for i, t in enumerate(times[:-1])]
    assert fake.asked == expected
    assert [(s.index, s.total) for s in states] == [(i + 1, steps) for i in range(steps)]


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_fresh_noise_at_every_step_but_the_last(name: str, steps: int) -> None:
    """Noise is asked for once per step, with the step's number, and not for the last."""
    asked: list[int] = []

    def noise(step: int) -> Batch:
        asked.append(step)
        return draw(step)

    list(NOISY[name](FakeDenoiser().at, draw(START), COSINE, COSINE.timesteps(steps), noise))
    assert asked == list(range(steps - 1))


@SAMPLERS
@pytest.mark.parametrize("done", [0, 1, 3])
def test_closing_a_run_ends_its_work(name: str, done: int) -> None:
    """A run works only when the next step is pulled, and closed it never denoises again."""
    fake = FakeDenoiser()
    run = sampler_of(name)(fake.at, draw(START), COSINE, COSINE.timesteps(6), draw)
    for _ in range(done):
        next(run)
    run.close()  # type: ignore[attr-defined]
    assert list(run) == []
    assert len(fake.asked) == done


@SAMPLERS
@SCHEDULES
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_result_is_the_last_estimate(name: str, schedule: Schedule, steps: int) -> None:
    """The last state is the last estimate of the clean image, to the bit, with no noise on it."""
    run = sampler_of(name)
    states = list(run(FakeDenoiser().at, draw(START), schedule, schedule.timesteps(steps), draw))
    np.testing.assert_array_equal(states[-1].x_t, states[-1].x0)
    before = states[-2].x_t if steps > 1 else draw(START)
    np.testing.assert_array_equal(states[-1].x_t, np.float32(0.5) * before)


@SAMPLERS
def test_states_are_float32_and_the_start_is_untouched(name: str) -> None:
    """Every state keeps shape and precision, and the caller's noise is not written to."""
    x = draw(START)
    for state in sampler_of(name)(FakeDenoiser().at, x, COSINE, COSINE.timesteps(4), draw):
        assert (state.x_t.shape, state.x_t.dtype) == (SHAPE, np.float32)
        assert (state.x0.shape, state.x0.dtype) == (SHAPE, np.float32)
    np.testing.assert_array_equal(x, draw(START))


@SAMPLERS
def test_images_of_a_batch_do_not_touch_each_other(name: str) -> None:
    """A batch gives each image what it gets alone, to the bit."""
    times, run = COSINE.timesteps(5), sampler_of(name)
    *_, together = run(ideal(COSINE, 0.5), draw(START), COSINE, times, draw)
    for row in range(SHAPE[0]):
        one = slice(row, row + 1)
        x = draw(START)[one]
        *_, alone = run(ideal(COSINE, 0.5), x, COSINE, times, lambda step, one=one: draw(step)[one])
        np.testing.assert_array_equal(together.x_t[one], alone.x_t)


def test_times_of_gives_every_image_the_same_time() -> None:
    """One float32 time per image of the batch."""
    t = times_of(np.zeros(SHAPE, np.float32), np.float64(0.25))
    assert (t.dtype, t.tolist()) == (np.float32, [0.25, 0.25, 0.25])


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.95), (0.5, 0.25), (0.02, 0.01), (0.2, 0.6)])
@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()])
def test_ddim_step_is_the_published_formula(schedule: Schedule, t: float, s: float) -> None:
    """`alpha_s x0 + sigma_s epsilon`, epsilon what explains x_t: in double precision the same."""
    rng = np.random.default_rng(5)
    x_t, x0 = (rng.standard_normal((2, 3, 4, 5)).astype(np.float32) for _ in range(2))
    epsilon = (x_t.astype(np.float64) - schedule.alpha(t) * x0) / schedule.sigma(t)
    expected = schedule.alpha(s) * x0 + schedule.sigma(s) * epsilon
    result = ddim_step(schedule, x_t, x0, t, s)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6 * (1 + np.abs(expected).max()))
