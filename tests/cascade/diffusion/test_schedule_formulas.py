"""Schedules by formula: betas, sigmas, rectified flow; what each refuses, and where it ends."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cascade.bundle.manifest import Manifest, read_manifest, write_manifest
from cascade.diffusion.betas import BetaSpec, alpha_bars, betas_of
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.family import schedule_words
from cascade.diffusion.samplers.ddpm import posterior
from cascade.diffusion.schedule import (
    LinearSchedule,
    Schedule,
    ScheduleSpec,
    TableSpec,
    first_time,
    make_schedule,
    training_steps,
)
from cascade.diffusion.spacing import Ramp, Spacing
from cascade.errors import InvalidRequest, ManifestError
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import write_tiny_bundle

LINEAR = BetaSpec(kind="betas", rule="linear", train_steps=1000)
EDM = SigmaSpec(kind="sigmas", rule="karras", lowest=0.002, highest=80.0)
FLOW = FlowSpec(kind="flow", shift=3.0)
ALL: dict[str, ScheduleSpec] = {
    "linear": LINEAR,
    "scaled": replace(LINEAR, rule="scaled_linear", first=0.00085, last=0.012),
    "cosine": replace(LINEAR, rule="squared_cosine"),
    "sigmoid": replace(LINEAR, rule="sigmoid"),
    "listed": replace(LINEAR, rule="listed", train_steps=3, betas=(0.1, 0.3, 0.7)),
    "zero": replace(LINEAR, zero_terminal_snr=True),
    "karras": replace(LINEAR, ramp="karras"),
    "exponential": replace(LINEAR, ramp="exponential"),
    "edm": EDM,
    "sigmas": replace(EDM, rule="exponential"),
    "flow": FLOW,
}
EVERY = pytest.mark.parametrize("name", ALL)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest


@EVERY
def test_every_schedule_is_one(name: str) -> None:
    """Falling times to 0, falling signal, rising noise, and log-SNR as both say."""
    schedule = make_schedule(ALL[name])
    assert isinstance(schedule, Schedule)
    times = schedule.timesteps(3)
    assert (len(times), times[-1]) == (4, 0.0)
    assert (np.diff(times) < 0).all()
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    assert (np.diff(alpha) > 0).all()
    assert (np.diff(sigma) < 0).all()
    assert (alpha[-1], sigma[-1]) == (1.0, 0.0)
    with np.errstate(divide="ignore"):
        expected = 2 * np.log(alpha[:-1] / sigma[:-1])
    np.testing.assert_allclose(schedule.log_snr(times[:-1]), expected, rtol=1e-6)
    if name != "flow":
        np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)
    assert len(schedule_words(ALL[name])) > 9


def test_linear_betas_are_the_schedule_of_that_name() -> None:
    """The same powers at every training step, to double precision's last digits."""
    times = np.arange(1001) / 1000
    known = np.exp(LinearSchedule().log_alpha_bar(times))
    np.testing.assert_allclose(alpha_bars(LINEAR), known, rtol=1e-12)
    assert (training_steps(LINEAR), first_time(LINEAR)) == (1000, 0.001)


def test_betas_are_their_formulas() -> None:
    """Ends and middles by hand."""
    five = replace(LINEAR, train_steps=5, first=0.01, last=0.09)
    np.testing.assert_allclose(betas_of(five), [0.01, 0.03, 0.05, 0.07, 0.09])
    scaled = betas_of(replace(five, rule="scaled_linear"))
    np.testing.assert_allclose(scaled, np.array([0.1, 0.15, 0.2, 0.25, 0.3]) ** 2)
    sigmoid = betas_of(replace(five, rule="sigmoid"))
    shares = [1 / (1 + math.exp(-x)) for x in (-6, -3, 0, 3, 6)]
    np.testing.assert_allclose(sigmoid, [0.01 + 0.08 * share for share in shares])
    powers = [math.cos((k / 4 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(5)]
    cosine = betas_of(replace(five, rule="squared_cosine", train_steps=4))
    expected = [1 - b / a for a, b in pairwise(powers)]
    np.testing.assert_allclose(cosine, [*expected[:3], 0.999], rtol=1e-12)


def test_zero_terminal_snr_is_the_paper_s_algorithm() -> None:
    """The last signal is 0, the first stays, and those between are shifted and scaled."""
    before, after = (
        np.sqrt(alpha_bars(replace(LINEAR, zero_terminal_snr=zero))) for zero in (False, True)
    )
    assert after[-1] == 0
    assert after[1] == pytest.approx(before[1], rel=1e-12)
    share = before[1] / (before[1] - before[-1])
    np.testing.assert_allclose(after[1:], (before[1:] - before[-1]) * share, rtol=1e-9)
    schedule = make_schedule(replace(LINEAR, zero_terminal_snr=True, spacing="trailing"))
    t, s = schedule.timesteps(4)[:2]
    assert (schedule.alpha(t), schedule.sigma(t), schedule.log_snr(t)) == (0.0, 1.0, -np.inf)
    step = posterior(schedule, t, s, 0.0)
    # Pure noise tells nothing: the mean is the estimate's, the variance all of the noise at s.
    assert (step.from_x0, step.from_x_t) == (pytest.approx(float(schedule.alpha(s))), 0.0)
    assert math.exp(step.log_variance) == pytest.approx(float(schedule.sigma(s)) ** 2)


def test_edm_s_sigmas_are_equation_5() -> None:
    """`(max^(1/rho) + i/(n-1) (min^(1/rho) - max^(1/rho)))^rho`, and then 0."""
    schedule = make_schedule(EDM)
    times = schedule.timesteps(18)
    ratio = schedule.sigma(times[:-1]) / schedule.alpha(times[:-1])
    share = np.arange(18) / 17
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    np.testing.assert_allclose(ratio, (high + share * (low - high)) ** 7, rtol=1e-9)
    assert make_schedule(EDM).timesteps(1).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("ramp", ["karras", "exponential"])
def test_a_ramp_spaces_the_sigmas_of_a_table(ramp: Ramp) -> None:
    """Between the table's own ends; at its training steps the schedule is the table."""
    table, ramped = make_schedule(LINEAR), make_schedule(replace(LINEAR, ramp=ramp))
    knots = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(ramped.alpha(knots), table.alpha(knots), rtol=1e-9)
    times = ramped.timesteps(9)
    ratio = ramped.sigma(times[:-1]) / ramped.alpha(times[:-1])
    ends = [float(table.sigma(t) / table.alpha(t)) for t in (1.0, 0.001)]
    assert (ratio[0], ratio[-1]) == (pytest.approx(ends[0]), pytest.approx(ends[1]))
    shaped = np.log(ratio) if ramp == "exponential" else ratio ** (1 / 7)
    np.testing.assert_allclose(np.diff(shaped), np.diff(shaped)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "kept"),
    [
        ("leading", [6, 4, 2, 0]), ("leading_inside", [8, 6, 4, 2]),
        ("linspace", [9, 6, 3, 0]), ("linspace_inside", [9, 7, 4, 2]),
        ("trailing", [9, 7, 4, 1]),
    ],
)  # fmt: skip
def test_spacings_by_hand(spacing: Spacing, kept: list[int]) -> None:
    """Four of ten training steps."""
    spec = replace(LINEAR, train_steps=10, spacing=spacing)
    np.testing.assert_allclose(
        make_schedule(spec).timesteps(4), [*((step + 1) / 10 for step in kept), 0.0]
    )


@pytest.mark.parametrize("spacing", ["leading_inside", "linspace_inside"])
def test_a_run_inside_has_room_for_one_step_less(spacing: Spacing) -> None:
    """As many steps as were trained would take one of them twice."""
    schedule = make_schedule(replace(LINEAR, train_steps=10, spacing=spacing))
    with pytest.raises(InvalidRequest, match="pass the 10 training steps"):
        schedule.timesteps(10)


@EVERY
def test_a_schedule_survives_its_manifest(name: str, tiny: Manifest) -> None:
    """Read back equal; a field that says nothing new is left out of old tables."""
    base, *rest = stages_of(tiny)
    spec = replace(base, schedule=ALL[name], prediction="v", timesteps=(), steps=2)
    changed = with_stages(tiny, (spec, *rest))
    assert read_manifest(write_manifest(changed).encode()) == changed
    plain = replace(spec, schedule=TableSpec(alpha_bar=(0.9, 0.5)))
    assert '"ramp"' not in write_manifest(with_stages(tiny, (plain, *rest)))


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (replace(LINEAR, train_steps=0), "train_steps"),
        (replace(LINEAR, train_steps=10_001), "train_steps"),
        (replace(LINEAR, train_steps=1, zero_terminal_snr=True), "train_steps"),
        (replace(LINEAR, first=0.0), "first"),
        (replace(LINEAR, first=0.5, last=0.4), "first"),
        (replace(LINEAR, last=1.0), "first"),
        (replace(LINEAR, betas=(0.1,)), "betas"),
        (replace(LINEAR, rule="listed", train_steps=2, betas=(0.1,)), "betas"),
        (replace(LINEAR, rule="listed", train_steps=2, betas=(0.1, 1.0)), "betas"),
        (replace(LINEAR, first=1e-20, last=1e-20), "last"),
        (replace(LINEAR, zero_terminal_snr=True, ramp="karras"), "ramp"),
        (TableSpec(alpha_bar=(0.5, 0.0), ramp="exponential"), "ramp"),
        (replace(EDM, lowest=0.0), "lowest"),
        (replace(EDM, highest=1e7), "lowest"),
        (replace(EDM, rho=0.5), "rho"),
        (replace(FLOW, shift=0.0), "shift"),
    ],
)
def test_numbers_that_make_no_schedule_are_refused(
    schedule: ScheduleSpec, field: str, tiny: Manifest
) -> None:
    """The error names the number, in the schedule and in that of the augmentation."""
    base, second, *rest = stages_of(tiny)
    assert second.augmentation is not None
    augmentation = replace(second.augmentation, schedule=schedule)
    for stages, path in (
        ((replace(base, schedule=schedule, prediction="v"), second), "[1].schedule"),
        ((base, replace(second, augmentation=augmentation)), "[2].augmentation.schedule"),
    ):
        with pytest.raises(ManifestError) as caught:
            with_stages(tiny, (*stages, *rest))
        assert caught.value.field == f"manifest.components{path}.{field}"


@pytest.mark.parametrize("schedule", [ALL["zero"], FLOW, TableSpec(alpha_bar=(0.5, 0.0))])
def test_epsilon_without_signal_is_refused(schedule: ScheduleSpec, tiny: Manifest) -> None:
    """There the clean picture cannot be found from it; v, x0 and flow are taken."""
    base, *rest = stages_of(tiny)
    spec = replace(base, schedule=schedule, steps=2)
    with pytest.raises(ManifestError, match="epsilon") as caught:
        with_stages(tiny, (replace(spec, prediction="epsilon"), *rest))
    assert caught.value.field == "manifest.components[1].prediction"
    for prediction in ("v", "x0", "flow"):
        with_stages(tiny, (replace(spec, prediction=prediction), *rest))
