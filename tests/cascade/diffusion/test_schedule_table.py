"""Schedules written out as numbers: the same process, only at its training steps."""

import numpy as np
import pytest

from cascade.diffusion.options import spaced_times
from cascade.diffusion.schedule import (
    LinearSchedule,
    Schedule,
    TableSpec,
    make_schedule,
    training_steps,
)
from cascade.diffusion.spacing import Spacing, listed_times
from cascade.diffusion.spec import SamplerKind
from cascade.errors import InvalidRequest

LINEAR = LinearSchedule(train_steps=50, beta_first=1e-3, beta_last=0.1)
KNOTS = np.arange(1, 51) / 50


def table(spacing: Spacing = "leading", offset: int = 0) -> Schedule:
    """The 50 steps of `LINEAR`, written out."""
    powers = np.exp(LINEAR.log_alpha_bar(KNOTS))
    return make_schedule(
        TableSpec(alpha_bar=tuple(map(float, powers)), spacing=spacing, offset=offset)
    )


def test_a_table_of_a_rule_is_the_rule_at_its_steps() -> None:
    """Signal, noise and log-SNR agree at every training step, and at 0 there is no noise."""
    written = table()
    assert isinstance(written, Schedule)
    for name in ("alpha", "sigma", "log_snr"):
        given, expected = getattr(written, name)(KNOTS), getattr(LINEAR, name)(KNOTS)
        np.testing.assert_allclose(given, expected, rtol=1e-9)
    assert (written.alpha(0.0), written.sigma(0.0), written.log_snr(0.0)) == (1.0, 0.0, np.inf)


@pytest.mark.parametrize("step", [1, 2, 25, 50])
def test_a_time_means_the_nearest_step(step: int) -> None:
    """Single precision and small errors of a time change nothing."""
    written = table()
    for time in (np.float32(step / 50), step / 50 - 0.009, min(step / 50 + 0.009, 1.0)):
        np.testing.assert_array_equal(
            written.alpha(np.float64(time)), written.alpha(np.float64(step / 50))
        )


@pytest.mark.parametrize(
    ("spacing", "offset", "steps", "kept"),
    [
        ("leading", 0, 4, [36, 24, 12, 0]),
        ("leading", 1, 4, [37, 25, 13, 1]),
        ("leading", 0, 7, [42, 35, 28, 21, 14, 7, 0]),
        ("linspace", 0, 4, [49, 33, 16, 0]),
        ("linspace", 0, 1, [0]),
        ("trailing", 0, 4, [49, 37, 24, 11]),
        ("trailing", 0, 3, [49, 32, 16]),
    ],
)
def test_spacings_keep_the_listed_steps(
    spacing: Spacing, offset: int, steps: int, kept: list[int]
) -> None:
    """The three published ways to thin out training steps, worked by hand for 50 of them."""
    times = table(spacing, offset).timesteps(steps)
    np.testing.assert_allclose(times * 50, [*(k + 1 for k in kept), 0])


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_a_run_of_all_steps_keeps_all(spacing: Spacing) -> None:
    """As many steps as were trained: each once, from the noisiest down."""
    np.testing.assert_allclose(table(spacing).timesteps(50) * 50, np.arange(50, -1, -1))


@pytest.mark.parametrize(("steps", "offset"), [(51, 0), (0, 0), (50, 1)])
def test_steps_that_the_table_does_not_have_name_the_field(steps: int, offset: int) -> None:
    """More steps than were trained, none, or an offset beyond the last are refused."""
    with pytest.raises(InvalidRequest) as caught:
        table(offset=offset).timesteps(steps)
    assert caught.value.field == "steps"


@pytest.mark.parametrize(
    ("sampler", "spacing", "steps", "offset", "end"),
    [
        ("ddim", "leading", 49, 1, 1),
        ("plms", "leading", 20, 5, 4),
        ("ddim_final_step", "leading", 9, 5, 1),
        ("ddim", "leading", 10, 4, 0),
        ("ddim", "leading", 50, 0, 0),
        ("ddpm", "leading", 49, 1, 0),
        ("ddim", "leading_inside", 24, 1, 0),
    ],
)
def test_a_last_step_is_as_long_as_the_others(
    sampler: SamplerKind, spacing: Spacing, steps: int, offset: int, end: int
) -> None:
    """Of samplers that move a whole stride: an offset above it leaves noise, worked by hand."""
    times = spaced_times(sampler, table(spacing, offset), steps)
    assert times[-1] * 50 == end


def test_listed_times_end_at_the_clean_image() -> None:
    """Training step k, counted from 0, ends at time (k + 1) / steps."""
    np.testing.assert_array_equal(listed_times(1000, (999, 499, 0)), [1.0, 0.5, 0.001, 0.0])


def test_training_steps_are_known_where_time_is_discrete() -> None:
    """A table has as many as it lists, the linear rule a thousand, continuous time none."""
    assert training_steps(TableSpec(alpha_bar=(0.9, 0.5))) == 2
    assert training_steps("linear") == 1000
    assert training_steps("cosine") is None
