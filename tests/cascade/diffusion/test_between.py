"""Runs whose training steps are not rounded, and whose start is scaled to the first sigma."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.manifest import read_manifest, write_manifest
from cascade.diffusion.schedule import TableSpec, make_schedule
from cascade.diffusion.stage import DiffusionStage
from cascade.errors import ManifestError
from cascade.numerics.noise import START, normals
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import write_tiny_bundle

POWERS = (0.99, 0.9, 0.7, 0.4, 0.1)
TABLE = TableSpec(alpha_bar=POWERS, spacing="linspace", ramp="between")


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 9, 40])
def test_sigmas_lie_in_a_straight_line_between_training_steps(steps: int) -> None:
    """Those of numpy's own interpolation; the powers of signal and noise add up to 1."""
    schedule = make_schedule(TABLE)
    times = schedule.timesteps(steps)
    assert (len(times), times[-1]) == (steps + 1, 0)
    known = [np.sqrt((1 - p) / p) for p in POWERS]
    places = np.linspace(0, len(POWERS) - 1, steps)[::-1]
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    np.testing.assert_allclose(
        sigma[:-1] / alpha[:-1], np.interp(places, range(len(POWERS)), known), rtol=1e-12
    )
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)
    np.testing.assert_allclose(
        schedule.log_snr(times)[:-1], 2 * np.log(alpha[:-1] / sigma[:-1]), rtol=1e-12
    )
    assert (alpha[-1], sigma[-1], schedule.log_snr(times)[-1]) == (1, 0, np.inf)


class Watching:
    """An engine that keeps the first pictures that it sees, and predicts none."""

    def __init__(self) -> None:
        self.seen: list[Array] = []

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Nothing but zeros."""
        self.seen.append(inputs["x_t"][:1])
        return {"prediction": 0 * inputs["x_t"]}

    def terminate(self) -> None:
        """Nothing runs on."""

    def close(self) -> None:
        """Nothing to release."""


def test_a_start_may_be_scaled_to_the_first_sigma(tmp_path_factory: pytest.TempPathFactory) -> None:
    """And is written in the manifest only then; a ramp ends at the clean picture."""
    tiny = write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest
    base, *others = stages_of(tiny)
    plain = replace(base, schedule=TABLE, sampler="euler", timesteps=(), steps=3)
    scaled = replace(plain, start="scaled")
    starts = []
    width, tokens = 1, 1
    for text in base.graph.inputs:
        if text.name == "context":
            width, tokens = int(text.shape[-1]), 8
    context = np.zeros((tokens, width), np.float16)
    for spec in (plain, scaled):
        engine = Watching()
        list(DiffusionStage(spec, 1, engine).run(GenerateRequest(seed=3), Handoff(context=context)))  # type: ignore[arg-type]
        starts.append(engine.seen[0])
    drawn = normals(starts[0].shape, seed=3, image=0, stage=1, step=START)
    np.testing.assert_array_equal(starts[0], drawn)
    np.testing.assert_array_equal(starts[1], np.float32(np.sqrt(1 - POWERS[-1])) * drawn)
    text = write_manifest(with_stages(tiny, (scaled, *others)))
    assert stages_of(read_manifest(text))[0] == scaled
    assert '"start"' not in str(write_manifest(with_stages(tiny, (plain, *others))))
    noisy = replace(plain, sampler="ddim_final_step", schedule=replace(TABLE, at_zero=0.995))
    with pytest.raises(ManifestError, match="at_zero: expected 1 with the ramp between"):
        read_manifest(write_manifest(with_stages(tiny, (noisy, *others))))
