"""Noise schedules against closed forms, plain-Python products and published respacings."""

import math

import numpy as np
import pytest

from cascade.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    ScheduleKind,
    make_schedule,
    respaced,
)
from cascade.errors import InvalidRequest

BOTH = pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()], ids=str)

# The lists of kept steps that DeepFloyd IF publishes under these names, noisiest first.
FAST_27 = (
    "999 800 799 600 599 500 400 399 377 355 333 311 288 266 244 222 200 "
    "199 177 155 133 111 88 66 44 22 0"
)
SMART_50 = (
    "999 988 977 966 955 944 933 922 911 900 899 879 859 840 820 800 799 766 733 700 699 650 600 "
    "599 500 499 400 399 350 300 299 266 233 200 199 179 159 140 120 100 "
    "99 88 77 66 55 44 33 22 11 0"
)
SUPER_40 = (
    "999 992 985 978 971 964 957 949 942 935 928 921 914 907 900 899 879 859 840 820 800 "
    "799 766 733 700 699 650 600 599 500 499 400 399 300 299 200 199 100 99 0"
)


def alpha_bar_by_hand(steps: int) -> float:
    """Product of `1 - beta` over the first training steps of Imagen's linear schedule."""
    product = 1.0
    for index in range(steps):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * index / 999)
    return product


@BOTH
def test_signal_and_noise_power_sum_to_one(schedule: Schedule) -> None:
    """The process preserves variance: alpha^2 + sigma^2 = 1 at every time."""
    t = np.linspace(0.0, 1.0, 777)
    power = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    np.testing.assert_allclose(power, 1.0, rtol=0, atol=1e-14)


@BOTH
def test_log_snr_is_the_log_ratio_of_powers(schedule: Schedule) -> None:
    """Log-SNR is 2 log(alpha / sigma) wherever there is noise."""
    t = np.linspace(0.001, 1.0, 500)
    expected = 2.0 * np.log(schedule.alpha(t) / schedule.sigma(t))
    np.testing.assert_allclose(schedule.log_snr(t), expected, rtol=1e-10, atol=1e-10)


@BOTH
def test_noise_only_grows(schedule: Schedule) -> None:
    """Alpha and log-SNR fall strictly with time, sigma rises strictly."""
    t = np.linspace(0.0, 1.0, 2001)
    assert np.all(np.diff(schedule.alpha(t)) < 0)
    assert np.all(np.diff(schedule.sigma(t)) > 0)
    assert np.all(np.diff(schedule.log_snr(t[1:])) < 0)


@BOTH
def test_scales_keep_the_shape_of_the_times(schedule: Schedule) -> None:
    """A table of times gives a table of scales, value by value that of the single time."""
    t = np.array([[0.25, 0.5, 0.75], [0.1, 0.9, 1.0]])
    for function in (schedule.alpha, schedule.sigma, schedule.log_snr):
        table = function(t)
        assert table.shape == t.shape
        assert table[1, 0] == function(np.float64(0.1))


@pytest.mark.parametrize(("t", "log_snr"), [(0.0, 20.0), (0.5, 0.0), (1.0, -20.0)])
def test_cosine_log_snr_is_antisymmetric_and_limited(t: float, log_snr: float) -> None:
    """The cosine schedule runs from log-SNR 20 over 0 in the middle to -20."""
    assert CosineSchedule().log_snr(np.float64(t)) == pytest.approx(log_snr, abs=1e-9)


def test_cosine_is_the_cosine_of_a_linear_angle() -> None:
    """Alpha is cos(pi t / 2), up to the limit of log-SNR, which moves the angle by e^-10."""
    t = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(CosineSchedule().alpha(t), np.cos(np.pi / 2 * t), atol=4.6e-5)
    bends = np.diff(np.arccos(CosineSchedule().alpha(t)), n=2)
    np.testing.assert_allclose(bends, 0.0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 250, 500, 999, 1000])
def test_linear_alpha_bar_is_the_product_of_its_betas(steps: int) -> None:
    """Alpha squared after k training steps is the product of 1 - beta, in plain Python."""
    alpha_bar = LinearSchedule().alpha(np.float64(steps / 1000)) ** 2
    assert alpha_bar == pytest.approx(alpha_bar_by_hand(steps), rel=1e-10)


def test_linear_ends_at_the_published_alpha_bar() -> None:
    """A thousand betas from 1e-4 to 0.02 leave 4.036e-5 of the signal power, none removed at 0."""
    schedule = LinearSchedule()
    assert float(schedule.alpha(np.float64(1.0))) ** 2 == pytest.approx(4.036e-5, rel=1e-3)
    assert schedule.alpha(np.float64(0.0)) == 1.0
    assert schedule.sigma(np.float64(0.0)) == 0.0
    assert schedule.log_snr(np.float64(0.0)) == math.inf


@pytest.mark.parametrize("steps", [0, 17, 998])
def test_linear_between_two_steps_is_their_geometric_mean(steps: int) -> None:
    """Half way between two training steps alpha is the geometric mean of theirs."""
    schedule = LinearSchedule()
    before, middle, after = schedule.alpha(np.array([steps, steps + 0.5, steps + 1]) / 1000)
    assert middle == pytest.approx(math.sqrt(before * after), rel=1e-12)


def test_linear_takes_its_parameters() -> None:
    """Two steps of beta 0.1 and 0.3 leave 0.9 and then 0.63 of the signal power."""
    schedule = LinearSchedule(train_steps=2, beta_first=0.1, beta_last=0.3)
    np.testing.assert_allclose(schedule.alpha(np.array([0.5, 1.0])) ** 2, [0.9, 0.63], rtol=1e-12)


@BOTH
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
def test_timesteps_fall_from_one_to_zero(schedule: Schedule, steps: int) -> None:
    """A run of n steps has n + 1 strictly decreasing times, the first 1 and the last 0."""
    times = schedule.timesteps(steps)
    assert times.shape == (steps + 1,)
    assert (times[0], times[-1]) == (1.0, 0.0)
    assert np.all(np.diff(times) < 0)


def test_cosine_timesteps_are_evenly_spaced() -> None:
    """Four steps of the cosine schedule are quarters."""
    np.testing.assert_array_equal(CosineSchedule().timesteps(4), [1.0, 0.75, 0.5, 0.25, 0.0])


def test_linear_timesteps_are_training_steps() -> None:
    """The linear schedule runs only through steps it was trained on; all of them when asked."""
    schedule = LinearSchedule()
    np.testing.assert_array_equal(schedule.timesteps(1000), np.arange(1000, -1, -1) / 1000)
    np.testing.assert_array_equal(schedule.timesteps(4), np.array([1000, 667, 334, 1, 0]) / 1000)


@pytest.mark.parametrize(
    ("sections", "published"),
    [
        ((10, 10, 3, 2, 2), FAST_27),
        ((10, 6, 4, 3, 2, 2, 3, 4, 6, 10), SMART_50),
        ((2, 2, 2, 2, 2, 2, 3, 4, 6, 15), SUPER_40),
    ],
    ids=["fast27", "smart50", "super40"],
)
def test_respacing_gives_the_published_lists(sections: tuple[int, ...], published: str) -> None:
    """Respacing keeps the training steps that DeepFloyd IF lists; step i is time (i + 1) / 1000."""
    times = respaced(1000, sections)
    assert len(times) == sum(sections) + 1
    assert times[-1] == 0.0
    kept = np.rint(times[:-1] * 1000 - 1).astype(int)
    assert " ".join(map(str, kept)) == published


@pytest.mark.parametrize(
    ("train_steps", "sections", "kept"),
    [
        (10, (2, 3), [10, 8, 6, 5, 1, 0]),
        (10, (4, 3, 3), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (1000, (1,), [1000, 0]),
    ],
)
def test_respacing_by_hand(train_steps: int, sections: tuple[int, ...], kept: list[int]) -> None:
    """Each part keeps both ends, a part of its full size all steps, a run of one the noisy end."""
    np.testing.assert_array_equal(respaced(train_steps, sections), np.array(kept) / train_steps)


@BOTH
@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_is_an_error_that_names_the_field(schedule: Schedule, steps: int) -> None:
    """A run of no steps is refused, with the field and the number in the error."""
    with pytest.raises(InvalidRequest, match=f"got {steps}") as caught:
        schedule.timesteps(steps)
    assert caught.value.field == "steps"


@pytest.mark.parametrize(
    ("sections", "words"),
    [((1001,), "holds 1000"), ((10, 501), "part 1"), ((0, 10), "0 asked"), ((10, -1), "-1 asked")],
)
def test_a_part_without_room_is_an_error_that_names_the_field(
    sections: tuple[int, ...], words: str
) -> None:
    """Respacing refuses to keep more steps than a part has, or none."""
    with pytest.raises(InvalidRequest, match=words) as caught:
        respaced(1000, sections)
    assert caught.value.field == "steps"


@pytest.mark.parametrize(("kind", "cls"), [("cosine", CosineSchedule), ("linear", LinearSchedule)])
def test_make_schedule_follows_the_name(kind: ScheduleKind, cls: type) -> None:
    """A manifest's name gives the schedule of that name, which fulfils the protocol."""
    schedule = make_schedule(kind)
    assert schedule == cls()
    assert isinstance(schedule, Schedule)
