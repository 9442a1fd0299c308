"""PLMS and runs that end at a schedule's own noise: closed forms on Gaussian data, and manifests.

The flow keeps the standardised value of `tests.cascade.diffusion.test_solvers`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.manifest import Manifest, read_manifest, write_manifest
from cascade.diffusion.betas import BetaSpec
from cascade.diffusion.continuous import FlowSpec
from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.family import DiffusionFamily
from cascade.diffusion.options import resolve_options
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.samplers.choice import first_step, sample
from cascade.diffusion.samplers.ddim import ddim_step
from cascade.diffusion.samplers.plms import WEIGHTS
from cascade.diffusion.samplers.resampling import resampled
from cascade.diffusion.schedule import Schedule, TableSpec, make_schedule
from cascade.diffusion.spec import DiffusionSpec, SamplerKind, evaluations
from cascade.edit import StageEdit
from cascade.errors import ManifestError
from cascade.graph_spec import NET
from cascade.numerics.noise import START
from cascade.types import Batch, PerSample
from tests.cascade.diffusion.test_samplers import FakeDenoiser, ideal
from tests.cascade.diffusion.test_solvers import (
    COSINE,
    EDM,
    FLOW,
    MEAN,
    STD,
    draw,
    exact,
    flow_error,
    half,
    inputs_of,
)
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import write_tiny_bundle

TABLE = TableSpec(alpha_bar=tuple(0.99 - 0.97 * n / 40 for n in range(40)), spacing="trailing")
NOISY = replace(TABLE, at_zero=TABLE.alpha_bar[0])
"""Ends at the first training step's noise."""


@pytest.mark.parametrize(
    ("schedule", "ends"),
    [(COSINE, (0.95, 0.1)), (FLOW, (0.9, 0.1)), (EDM, (0.8, 0.2))],
    ids=["cosine", "flow", "edm"],
)
def test_the_error_falls_with_the_square_of_the_steps(
    schedule: Schedule, ends: tuple[float, float]
) -> None:
    """The slope of the error over the steps, both as logarithms, is 2.

    The weights are those of fourth order in equal steps of time; the noise is carried along in
    `sigma / alpha`, whose steps are not equal.
    """
    steps = (32, 64, 128)
    errors = [flow_error("plms", schedule, ends, n) for n in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-2, abs=0.15)
    assert errors[-1] < 1e-3


def test_the_weights_are_those_of_adams_and_bashforth() -> None:
    """`k` of them integrate every polynomial below degree `k` from the latest point on, exactly."""
    for weights in WEIGHTS:
        for degree in range(len(weights)):
            found = sum(w * (-at) ** degree for at, w in enumerate(weights))
            assert found == pytest.approx(1 / (degree + 1), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_one_evaluation_a_step_and_two_at_the_first(steps: int) -> None:
    """Both with the first step's index, at both its times; counted up to the total."""
    fake = FakeDenoiser()
    states = list(sample("plms", half("plms", steps, fake)))
    total = evaluations("plms", steps)
    assert total == steps + (steps > 1)
    assert [(s.index, s.total) for s in states] == [(i + 1, total) for i in range(total)]
    times = [float(np.float32(t)) for t in COSINE.timesteps(steps)]
    second = [(0, times[1])] if steps > 1 else []
    expected = [(0, times[0]), *second, *((n, times[n]) for n in range(1, steps))]
    assert [(step, asked[0]) for step, asked in fake.asked] == expected


def test_a_single_image_is_reached_exactly() -> None:
    """When all data are one picture, its noise is the same at every step."""

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        del t
        return Estimate(np.full_like(x_t, MEAN))

    at: Callable[[int], Denoiser] = lambda _: denoise  # noqa: E731  a denoiser per step
    schedule, start = make_schedule(NOISY), draw(START)
    times = schedule.timesteps(6)
    alpha, sigma = float(schedule.alpha(times[0])), float(schedule.sigma(times[0]))
    epsilon = (start - alpha * MEAN) / sigma
    kinds: tuple[SamplerKind, ...] = ("plms", "ddim_final_step")
    for kind in kinds:
        *_, last = sample(kind, replace(inputs_of(schedule, times, start), denoise=at))
        expected = np.sqrt(NOISY.at_zero) * MEAN + np.sqrt(1 - NOISY.at_zero) * epsilon
        np.testing.assert_allclose(last.x_t, expected, atol=3e-5)


def test_rows_do_not_touch_each_other() -> None:
    """A batch gives each picture what it gets alone; a closed run asks no more."""
    *_, together = sample("plms", half("plms", 6, FakeDenoiser()))
    *_, alone = sample("plms", replace(half("plms", 6, FakeDenoiser()), start=draw(START)[1:]))
    np.testing.assert_array_equal(together.x_t[1:], alone.x_t)
    fake = FakeDenoiser()
    run = sample("plms", half("plms", 6, fake))
    next(run)
    run.close()
    assert (list(run), len(fake.asked)) == ([], 1)


def test_steps_that_are_taken_again_are_ddim_s() -> None:
    """Each begins anew, so none has a step before it."""
    fake = FakeDenoiser()
    inputs = replace(half("plms", 4, fake), noise=draw)
    assert [s.index for s in resampled("plms", inputs, 3)] == list(range(1, 13))
    assert len(list(first_step("plms", inputs))) == 1


def test_the_last_step_is_one_like_the_others() -> None:
    """`ddim_final_step` until there is `ddim`; then a step to what the table keeps at time 0."""
    schedule = make_schedule(NOISY)
    times, start = schedule.timesteps(5), exact(schedule, 1.0).astype(np.float32)
    inputs = replace(inputs_of(schedule, times, start), denoise=ideal(schedule, STD))
    plain, ended = (list(sample(kind, inputs)) for kind in ("ddim", "ddim_final_step"))
    for one, other in zip(plain[:-1], ended[:-1], strict=True):
        np.testing.assert_array_equal(one.x_t, other.x_t)
    expected = ddim_step(schedule, plain[-2].x_t, plain[-1].x0, times[-2], times[-1])
    np.testing.assert_array_equal(ended[-1].x_t, expected)
    assert (ended[-1].x_t != plain[-1].x_t).any()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest


def base_of(tiny: Manifest) -> DiffusionSpec:
    """Its first stage, with PLMS on a table."""
    return replace(
        stages_of(tiny)[0], sampler="plms", schedule=NOISY, prediction="epsilon", timesteps=()
    )


def test_a_manifest_holds_tables_that_end_noisy(tiny: Manifest) -> None:
    """Written, read and the same; the cost counts the first step twice, of an edit as well."""
    family, base = DiffusionFamily(), base_of(tiny)
    for sampler in ("plms", "ddim_final_step"):
        spec = replace(base, sampler=sampler)  # type: ignore[arg-type]
        stages = (spec, *stages_of(tiny)[1:])
        assert stages_of(read_manifest(write_manifest(with_stages(tiny, stages))))[0] == spec
    plan = resolve_options(base, DiffusionOptions(steps=6))
    assert family.cost(base, plan).runs[NET] == 7
    edit = StageEdit(picture=np.zeros((8, 8, 3), np.uint8), strength=0.5)
    assert family.cost(base, replace(plan, edit=edit)).units == 4
    again = replace(edit, redrawn=np.ones((8, 8), bool), resample=2)
    assert family.cost(base, replace(plan, edit=again)).units == 6


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schedule": "cosine"}, "sampler"),
        ({"schedule": FlowSpec(kind="flow"), "prediction": "flow"}, "sampler"),
        (
            {
                "schedule": BetaSpec(
                    kind="betas", rule="linear", train_steps=9, zero_terminal_snr=True
                ),
                "prediction": "v",
            },
            "sampler",
        ),
        ({"sampler": "ddim"}, "sampler"),
        ({"sampler": "ddim_final_step", "schedule": TABLE}, "sampler"),
        ({"schedule": replace(NOISY, at_zero=NOISY.alpha_bar[1])}, "schedule.alpha_bar"),
        ({"schedule": replace(TABLE, alpha_bar=(1.0, 0.5))}, "schedule.alpha_bar"),
    ],
    ids=["continuous", "flow", "no-signal", "ddim-noisy", "clean", "rising", "no-noise"],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    tiny: Manifest, changes: dict[str, object], field: str
) -> None:
    """Naming the field."""
    stages = (replace(base_of(tiny), **changes), *stages_of(tiny)[1:])  # type: ignore[arg-type]
    with pytest.raises(ManifestError) as refused:
        read_manifest(write_manifest(with_stages(tiny, stages)))
    assert str(refused.value.field).endswith(field)
