"""Truncated conditioning, and noise of the small picture: each against a worked answer."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from cascade.boundary import Tensor
from cascade.bundle.manifest import Manifest, read_manifest, write_manifest
from cascade.codecs.image import to_network
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.options import run_times
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import CosineSchedule
from cascade.diffusion.spec import AugmentationSpec, DiffusionSpec, ThresholdSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.errors import ManifestError
from cascade.events import StageFinished
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle

CONTEXT = np.ones((2, WIDTH), np.float16)
SEED = 6
STOP = 0.25
LEVEL = 0.5


class Remembering:
    """An engine whose clean picture is always the same; keeps what it was shown."""

    def __init__(self, answer: float = 0.25) -> None:
        self.answer = np.float32(answer)
        self.shown: list[Mapping[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """A flat picture."""
        self.shown.append(dict(inputs))
        return {"prediction": np.full_like(inputs["x_t"], self.answer)}

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest


def plain(spec: DiffusionSpec, **changes: object) -> DiffusionSpec:
    """A stage whose network says the clean picture, without guidance or clipping."""
    return replace(
        spec,
        prediction="x0",
        schedule="cosine",
        sampler="ddim",
        guidance=replace(spec.guidance, kind="constant", weight=1.0),
        threshold=ThresholdSpec(kind="none"),
        **changes,
    )


def truncated(spec: DiffusionSpec, ends_at: float = STOP) -> DiffusionSpec:
    """A base stage whose runs end at a level, with the latent that it makes then."""
    size = (3, spec.makes.height, spec.makes.width)
    return plain(spec, ends_at=ends_at, makes=Tensor(shape=size, dtype="float32"))


def end_of(spec: DiffusionSpec, engine: Remembering, handoff: Handoff, steps: int = 5) -> Handoff:
    """What a run hands on."""
    stage = DiffusionStage(spec, 1, engine)
    request = GenerateRequest(seed=SEED, options={spec.name: DiffusionOptions(steps=steps)})
    (last,) = [e for e in stage.run(request, handoff) if isinstance(e, StageFinished)]
    return last.handoff


def test_a_run_ends_at_its_level(tiny: Manifest) -> None:
    """With a true estimate DDIM is there exactly: the picture and the noise it began with."""
    spec = truncated(stages_of(tiny)[0])
    engine = Remembering()
    made = end_of(spec, engine, Handoff(context=CONTEXT))
    assert made.image is None
    assert made.tensor is not None
    assert len(engine.shown) == 5
    schedule, end, first = CosineSchedule(), np.float64(STOP), np.float64(1)
    noise = normals((1, *made.tensor.shape), seed=SEED, image=0, stage=1, step=START)
    kept = schedule.sigma(end) / schedule.sigma(first)
    wanted = schedule.alpha(end) * 0.25 + kept * (noise[0] - schedule.alpha(first) * 0.25)
    np.testing.assert_allclose(made.tensor, wanted, atol=2e-6)


def test_its_steps_are_spread_over_what_is_left(tiny: Manifest) -> None:
    """As many as were asked for, from noise down to the level."""
    spec = truncated(stages_of(tiny)[0])
    np.testing.assert_allclose(
        run_times(spec, CosineSchedule(), 3), [1, 0.75, 0.5, STOP], rtol=1e-15
    )


@pytest.mark.parametrize("level", [0.0, LEVEL])
def test_noise_of_the_small_picture_comes_before_enlarging(tiny: Manifest, level: float) -> None:
    """The forward process at its own size, then cubic; the network is told the level."""
    noise = AugmentationSpec(lowest=0.0, highest=1.0, default=level, applied_to="small")
    spec = plain(stages_of(tiny)[1], augmentation=noise)
    low = spec.low
    assert low is not None
    picture = np.random.default_rng(2).integers(0, 256, (low.height, low.width, 3), np.uint8)
    engine = Remembering()
    end_of(spec, engine, Handoff(context=CONTEXT, image=picture), steps=1)
    small = to_network(picture)
    drawn = normals(small.shape, seed=SEED, image=0, stage=1, step=AUGMENTATION)
    wanted = upsample(augment(small, level, drawn), spec.makes.width // low.width)
    np.testing.assert_array_equal(engine.shown[0]["low_res"], wanted)
    assert engine.shown[0]["aug_level"] == [level]


def test_what_a_truncated_run_left_is_shown_as_it_is(tiny: Manifest) -> None:
    """No noise is added to a latent that has it; the level is told all the same."""
    noise = AugmentationSpec(lowest=STOP, highest=STOP, default=STOP, applied_to="before")
    spec = stages_of(tiny)[1]
    low = spec.low
    assert low is not None
    start = Tensor(shape=(3, low.height, low.width), dtype="float32")
    spec = plain(spec, augmentation=noise, starts_from=(spec.starts_from[0], start))
    tensor = normals(start.shape, seed=1, image=0, stage=0, step=0)
    engine = Remembering()
    end_of(spec, engine, Handoff(context=CONTEXT, tensor=tensor), steps=1)
    wanted = upsample(tensor[None], spec.makes.width // low.width)
    np.testing.assert_array_equal(engine.shown[0]["low_res"], wanted)
    assert engine.shown[0]["aug_level"] == [np.float32(STOP)]


def faulty(tiny: Manifest, name: str) -> tuple[DiffusionSpec, str]:
    """An entry with one contradiction, and the field that it is in."""
    base, upscaler, _ = stages_of(tiny)
    before = AugmentationSpec(lowest=0.0, highest=0.5, default=0.1, applied_to="before")
    stages = {
        "a picture": replace(base, sampler="ddim", ends_at=STOP),
        "no noise": truncated(base, 1.0),
        "no such sampler": replace(truncated(base), sampler="dpmpp_2m"),
        "steps of training": replace(truncated(base), schedule="linear"),
        "no latent": replace(upscaler, augmentation=before),
        "bytes": replace(
            upscaler, enlarge="bicubic_pil", augmentation=replace(before, applied_to="small")
        ),
    }
    spec = stages[name]
    place = 1 if spec.name == base.name else 2
    field = "ends_at" if place == 1 else "augmentation.applied_to"
    return spec, f"manifest.components[{place}].{field}"


@pytest.mark.parametrize(
    "name",
    ["a picture", "no noise", "no such sampler", "steps of training", "no latent", "bytes"],
)
def test_a_contradiction_is_refused(tiny: Manifest, name: str) -> None:
    """Naming the field."""
    spec, field = faulty(tiny, name)
    changed = [spec if stage.name == spec.name else stage for stage in stages_of(tiny)]
    with pytest.raises(ManifestError) as caught:
        with_stages(tiny, changed)
    assert caught.value.field == field


def test_a_manifest_without_them_is_written_as_before(tiny: Manifest) -> None:
    """So every bundle keeps its id; what is said is read back."""
    text = write_manifest(tiny)
    assert "ends_at" not in text
    assert "applied_to" not in text
    base, upscaler, last = stages_of(tiny)
    noise = AugmentationSpec(lowest=0.0, highest=1.0, default=0.1, applied_to="small")
    changed = with_stages(tiny, (base, replace(upscaler, augmentation=noise), last))
    assert read_manifest(write_manifest(changed).encode()) == changed
