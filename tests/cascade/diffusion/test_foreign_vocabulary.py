"""What brought cascades say in their manifests, each word against a worked answer.

Learned variance, stored null contexts, lists of steps, padding, other ways to enlarge.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import Manifest, read_manifest, write_manifest
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.denoiser import EngineDenoiser, Estimate
from cascade.diffusion.guidance import GuidedDenoiser
from cascade.diffusion.options import check_context, resolve_options, run_times
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.samplers.ddpm import ddpm, posterior
from cascade.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    TableSpec,
    first_time,
    make_schedule,
)
from cascade.diffusion.spec import (
    AugmentationSpec,
    DiffusionSpec,
    StoredContext,
    ThresholdSpec,
)
from cascade.diffusion.stage import DiffusionStage
from cascade.diffusion.thresholding import thresholded
from cascade.diffusion.unconditional import read_stored_context, with_null_half
from cascade.errors import InvalidRequest, ManifestError, StageError
from cascade.events import StageFinished
from cascade.graph_spec import NET, TensorSpec
from cascade.numerics.noise import AUGMENTATION, normals
from cascade.request import GenerateRequest, Handoff
from cascade.stage_factory import open_stage
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from cascade.tuning.plan import EnginePlan
from cascade.types import Array, Batch, PerSample
from tests.support.manifests import encoder_of, stages_of, with_stages
from tests.support.tiny_bundle import WIDTH, WORDS, tokenizer_json, write_tiny_bundle

SHAPE = (1, 3, 4, 5)
TABLE = TableSpec(alpha_bar=tuple(math.cos(math.pi / 2 * k / 11) ** 2 for k in range(1, 11)))
"""Ten training steps."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest


def draw(step: int) -> Batch:
    """Standard normal noise of a step."""
    return normals(SHAPE, seed=4, image=0, stage=0, step=step)


@dataclass(frozen=True)
class Fixed:
    """A denoiser that says the same whatever it sees."""

    estimate: Estimate

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The fixed estimate."""
        del x_t, t
        return self.estimate


def runs(variance: Array | None, gamma: float) -> list[Batch]:
    """States of a three-step run whose denoiser halves what it sees and says that variance."""
    schedule, x = LinearSchedule(), draw(99)

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        del t
        return Estimate(np.float32(0.5) * x_t, variance)

    times = schedule.timesteps(3)
    return [state.x_t for state in ddpm(lambda _: denoise, x, schedule, times, draw, gamma)]


@pytest.mark.parametrize(("value", "gamma"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_a_constant_learned_variance_is_a_gamma(value: float, gamma: float) -> None:
    """-1 is the lower bound, 1 the upper, 0 halfway in the logarithm, whatever gamma was."""
    learned = runs(np.full(SHAPE, value, np.float32), gamma=0.77)
    for state, expected in zip(learned, runs(None, gamma), strict=True):
        assert state.dtype == np.float32
        np.testing.assert_allclose(state, expected, rtol=1e-6)


def test_a_learned_variance_is_each_pixel_s_own() -> None:
    """The first state is mean + deviation * noise with the deviation of that pixel."""
    variance = np.linspace(-1.5, 1.5, math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    schedule, x = LinearSchedule(), draw(99)
    t, s = schedule.timesteps(3)[:2]
    lower, upper = (posterior(schedule, t, s, gamma) for gamma in (0.0, 1.0))
    share = (variance.astype(np.float64) + 1) / 2
    log_variance = share * upper.log_variance + (1 - share) * lower.log_variance
    mean = (0.5 * lower.from_x0 + lower.from_x_t) * x
    expected = mean + np.exp(log_variance / 2) * draw(0)
    np.testing.assert_allclose(runs(variance, 0.0)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("times", "added"), [((1.0, 0.5, 0.2, 0.0), True), ((0.9, 0.1, 0.0), False)]
)
def test_noise_at_the_last_step_is_the_upper_variance(
    times: tuple[float, ...], *, added: bool
) -> None:
    """The finished picture gets sigma_t of fresh noise, or none where the run ends at step 0."""
    schedule, x0 = make_schedule(TABLE), np.full(SHAPE, 0.25, np.float32)
    inputs = SamplerInputs(
        denoise=lambda _: Fixed(Estimate(x0)),
        start=draw(99),
        schedule=schedule,
        times=np.array(times),
        noise=draw,
        gamma=1.0,
        first_time=first_time(TABLE),
    )
    noisy, plain = (list(sample(kind, inputs)) for kind in ("ddpm_final_noise", "ddpm"))
    for state, expected in zip(noisy[:-1], plain[:-1], strict=True):
        np.testing.assert_array_equal(state.x_t, expected.x_t)
    deviation = math.sqrt(1 - TABLE.alpha_bar[1]) if added else 0.0
    last = len(times) - 2
    np.testing.assert_allclose(noisy[-1].x_t, x0 + deviation * draw(last), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(noisy[-1].x0, x0)


def test_guidance_takes_the_variance_of_the_conditional_half() -> None:
    """Guidance combines estimates; the variance is what the network says to the text."""
    rows = np.arange(2, dtype=np.float32)[:, None, None, None] * np.ones(
        (2, *SHAPE[1:]), np.float32
    )
    both = GuidedDenoiser(Fixed(Estimate(rows, rows + 5)), np.array([3.0], np.float32))
    estimate = both(np.zeros(SHAPE, np.float32), np.ones(1, np.float32))
    assert estimate.variance is not None
    np.testing.assert_array_equal(estimate.variance, np.full(SHAPE, 5.0))
    np.testing.assert_array_equal(estimate.x0, np.full(SHAPE, -2.0))


@pytest.mark.parametrize("kind", ["none", "static", "dynamic"])
def test_thresholding_leaves_a_learned_variance_alone(kind: str) -> None:
    """Every kind wraps the estimate and hands the variance on; `none` changes nothing."""
    x0, variance = 3 * draw(1), 2 * draw(2)
    spec = ThresholdSpec(kind=kind, percentile=0.9, cap=1.0)  # type: ignore[arg-type]
    estimate = thresholded(Fixed(Estimate(x0, variance)), spec)(x0, np.ones(1, np.float32))
    assert estimate.variance is variance
    expected = x0 if kind == "none" else np.clip(x0, -1, 1)
    np.testing.assert_allclose(estimate.x0, expected, rtol=1e-6)


class FakeEngine:
    """Answers with fixed outputs and keeps what it was given."""

    def __init__(self, **outputs: Array) -> None:
        self.outputs = outputs
        self.asked: list[Mapping[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, one row per row asked."""
        self.asked.append(dict(inputs))
        rows = len(next(iter(inputs.values())))
        return {name: np.repeat(value, rows, axis=0) for name, value in self.outputs.items()}

    def terminate(self) -> None:
        """Nothing runs long enough to end."""

    def close(self) -> None:
        """Nothing to release."""


def test_a_variance_of_another_shape_is_a_stage_error() -> None:
    """The error names the output and both shapes."""
    engine = FakeEngine(prediction=draw(0), variance=draw(0)[:, :, :2])
    denoise = EngineDenoiser(engine, CosineSchedule(), "x0", {})
    with pytest.raises(StageError, match=r"variance: expected shape \(1, 3, 4, 5\)"):
        denoise(draw(1), np.ones(1, np.float32))


def conditioning(tokens: int) -> dict[str, Array]:
    """Graph inputs of one request."""
    context = np.arange(1, tokens * WIDTH + 1, dtype=np.float32).reshape(1, tokens, WIDTH)
    return {"context": context, "context_mask": np.ones((1, tokens), np.float32)}


def test_without_a_stored_context_the_mask_asks() -> None:
    """Same embeddings twice, the second time nothing of them counts."""
    doubled = with_null_half(conditioning(3), None)
    np.testing.assert_array_equal(doubled["context"][0], doubled["context"][1])
    np.testing.assert_array_equal(doubled["context_mask"], [[1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(("tokens", "stored"), [(3, 3), (2, 5), (5, 1)])
def test_a_stored_context_takes_the_text_s_place(tokens: int, stored: int) -> None:
    """The second row is the stored one; whichever is shorter is filled with masked-out zeros."""
    null = -np.ones((stored, WIDTH), np.float16)
    given = {**conditioning(tokens), "aug_level": np.array([0.25], np.float32)}
    doubled = with_null_half(given, null)
    length = max(tokens, stored)
    assert doubled["context"].shape == (2, length, WIDTH)
    np.testing.assert_array_equal(doubled["context"][0, :tokens], given["context"][0])
    np.testing.assert_array_equal(doubled["context"][1, :stored], null)
    assert doubled["context_mask"].sum(1).tolist() == [tokens, stored]
    assert not doubled["context"][doubled["context_mask"] == 0].any()
    assert doubled["aug_level"].tolist() == [0.25, 0.25]


def test_a_stored_context_is_read_as_it_was_written() -> None:
    """Rows of little-endian half precision, no header."""
    rows = np.linspace(-3, 3, 2 * WIDTH).astype("<f2").reshape(2, WIDTH)
    spec = StoredContext(file="base.null", tokens=2)
    np.testing.assert_array_equal(read_stored_context(spec, rows.tobytes(), WIDTH), rows)


@pytest.mark.parametrize(
    ("tokens", "data"),
    [(2, b"\0" * 31), (0, b""), (-1, b""), (1, b"\0\x7c" * WIDTH)],
    ids=["short", "none", "negative", "infinite"],
)
def test_a_broken_stored_context_names_its_file(tokens: int, data: bytes) -> None:
    """Wrong length, no tokens, or infinity."""
    with pytest.raises(ManifestError, match=r"base\.null"):
        read_stored_context(StoredContext(file="base.null", tokens=tokens), data, WIDTH)


@pytest.mark.parametrize(("size", "factor"), [(4, 4), (5, 3), (1, 4), (7, 1)])
def test_corners_stay_on_corners(size: int, factor: int) -> None:
    """The ends are the ends, a colour stays a colour, and a ramp stays a straight ramp."""
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    tall = upsample(np.broadcast_to(ramp[:, None], (1, 3, size, 2)), factor, "bilinear_corners")
    expected = np.linspace(0, 1, size * factor) if size > 1 else np.zeros(factor)
    np.testing.assert_allclose(tall, np.broadcast_to(expected[:, None], tall.shape), atol=1e-6)
    flat = upsample(np.full((1, 3, size, 2), 0.7, np.float32), factor, "bilinear_corners")
    np.testing.assert_allclose(flat, 0.7, rtol=1e-6)


def test_enlarge_takes_the_named_kind() -> None:
    """A checker of 2x2 with linear corners: the middle of an edge is halfway."""
    image = np.zeros((1, 3, 2, 2), np.float32)
    image[..., 1] = 3
    wide = upsample(image, 2, "bilinear_corners")
    np.testing.assert_allclose(wide[0, 0], np.tile([0, 1, 2, 3], (4, 1)), atol=1e-6)
    assert not np.allclose(wide, upsample(image, 2))


def test_augmentation_follows_the_named_schedule() -> None:
    """Signal and noise are the table's at that level."""
    schedule = make_schedule(TABLE)
    ones, zeros = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    np.testing.assert_allclose(
        augment(ones, 0.3, zeros, schedule) ** 2, TABLE.alpha_bar[2], rtol=1e-6
    )
    np.testing.assert_allclose(
        augment(zeros, 0.3, ones, schedule) ** 2, 1 - TABLE.alpha_bar[2], rtol=1e-6
    )


def brought(spec: DiffusionSpec, **changes: object) -> DiffusionSpec:
    """A stage of the tiny bundle with the choices of a brought one."""
    image = spec.graph.inputs[0].shape
    outputs = tuple(
        TensorSpec(name=n, dtype="float32", shape=image) for n in ("prediction", "variance")
    )
    defaults = {
        "graphs": {NET: replace(spec.graph, outputs=outputs)},
        "schedule": TABLE,
        "variance": "learned_range",
        "sampler": "ddpm",
        "steps": 3,
        "timesteps": (9, 4, 0),
    }
    return replace(spec, **{**defaults, **changes})


def test_a_list_of_steps_is_the_default_run(tiny: Manifest) -> None:
    """Asked for nothing or for just as many steps the list is kept; other numbers are spaced."""
    spec = brought(stages_of(tiny)[0])
    schedule = make_schedule(spec.schedule)
    default = resolve_options(spec, DiffusionOptions()).steps
    np.testing.assert_allclose(run_times(spec, schedule, default), [1.0, 0.5, 0.1, 0.0])
    np.testing.assert_allclose(run_times(spec, schedule, 2), [0.6, 0.1, 0.0])


def test_more_steps_than_were_trained_are_refused_early(tiny: Manifest) -> None:
    """Before any work, naming the option."""
    with pytest.raises(InvalidRequest, match="expected 1 to 10, got 11") as caught:
        resolve_options(brought(stages_of(tiny)[0]), DiffusionOptions(steps=11))
    assert caught.value.field == "options.base.steps"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sampler": "ddim"}, "variance"),
        ({"sampler": "ddpm_final_noise", "gamma": 1.0}, "variance"),
        ({"sampler": "ddpm_final_noise", "variance": "fixed", "gamma": 0.5}, "sampler"),
        (
            {
                "sampler": "ddpm_final_noise",
                "variance": "fixed",
                "gamma": 1.0,
                "schedule": "cosine",
                "timesteps": (),
            },
            "sampler",
        ),
        ({"timesteps": (4, 9, 0)}, "timesteps"),
        ({"timesteps": (10, 4, 0)}, "timesteps"),
        ({"timesteps": (9, 4)}, "timesteps"),
        ({"timesteps": (9, 4, -1)}, "timesteps"),
        ({"schedule": "cosine"}, "timesteps"),
        ({"schedule": TableSpec(alpha_bar=(0.9, 0.95)), "timesteps": ()}, "schedule.alpha_bar"),
        ({"schedule": TableSpec(alpha_bar=(0.9, 0.0, 0.0)), "timesteps": ()}, "schedule.alpha_bar"),
        ({"schedule": TableSpec(alpha_bar=(0.9, -0.1)), "timesteps": ()}, "schedule.alpha_bar"),
        ({"schedule": TableSpec(alpha_bar=()), "timesteps": ()}, "schedule.alpha_bar"),
        ({"schedule": TableSpec(alpha_bar=(1.0, 0.5)), "timesteps": ()}, "schedule.alpha_bar"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    tiny: Manifest, changes: dict[str, object], field: str
) -> None:
    """The error names the stage's field."""
    stages = (brought(stages_of(tiny)[0], **changes), *stages_of(tiny)[1:])
    with pytest.raises(ManifestError) as caught:
        with_stages(tiny, stages)
    assert caught.value.field == f"manifest.components[1].{field}"


def test_a_learned_variance_needs_its_output(tiny: Manifest) -> None:
    """A graph with one output cannot say a variance."""
    stage = brought(stages_of(tiny)[0], graphs={NET: stages_of(tiny)[0].graph})
    with pytest.raises(ManifestError, match="variance"):
        with_stages(tiny, (stage, *stages_of(tiny)[1:]))


def test_a_stored_context_must_be_listed(tiny: Manifest) -> None:
    """Its file is one of the bundle's files like any other."""
    stored = StoredContext(file="base.null", tokens=2)
    stages = (replace(stages_of(tiny)[0], null_context=stored), *stages_of(tiny)[1:])
    with pytest.raises(ManifestError, match=r"base\.null is used but not listed"):
        with_stages(tiny, stages)


def test_the_new_words_survive_their_file(tiny: Manifest) -> None:
    """Tables, lists, stored contexts and levels come back equal from JSON."""
    augmentation = AugmentationSpec(lowest=0.1, highest=1.0, default=0.3, schedule=TABLE)
    entry = replace(tiny.files[0], name="sr16.null")
    stages = (
        brought(stages_of(tiny)[0]),
        replace(
            stages_of(tiny)[1],
            augmentation=augmentation,
            enlarge="bilinear_corners",
            null_context=StoredContext(file="sr16.null", tokens=2),
            threshold=ThresholdSpec(kind="none"),
        ),
        *stages_of(tiny)[2:],
    )
    encoder = replace(encoder_of(tiny), pad_token=3)
    manifest = replace(tiny, components=(encoder, *stages), files=(*tiny.files, entry))
    assert read_manifest(write_manifest(manifest).encode()) == manifest


def test_a_stage_feeds_only_the_inputs_that_its_graph_has(tiny: Manifest) -> None:
    """A graph without a mask gets none; both halves of guidance arrive, the stored one second."""
    graph = stages_of(tiny)[0].graph
    inputs = tuple(i for i in graph.inputs if i.name != "context_mask")
    outputs = brought(stages_of(tiny)[0]).graph.outputs
    stage_spec = brought(
        stages_of(tiny)[0], graphs={NET: replace(graph, inputs=inputs, outputs=outputs)}
    )
    image = normals((1, 3, 8, 8), seed=1, image=0, stage=0, step=0)
    engine = FakeEngine(prediction=image, variance=0 * image)
    null = np.full((2, WIDTH), 7, np.float16)
    stage = DiffusionStage(stage_spec, 1, engine, null_context=null)
    context = np.ones((2, WIDTH), np.float16)
    events = list(stage.run(GenerateRequest(), Handoff(context=context)))
    assert isinstance(events[-1], StageFinished)
    assert [sorted(asked) for asked in engine.asked] == [["context", "t", "x_t"]] * 3
    np.testing.assert_array_equal(engine.asked[0]["context"], np.stack([context, null]))
    np.testing.assert_allclose([a["t"][0] for a in engine.asked], [1.0, 0.5, 0.1], rtol=1e-6)


def test_a_stage_enlarges_and_noises_as_the_manifest_says(tiny: Manifest) -> None:
    """The graph's low-resolution input is the named enlargement under the named schedule."""
    augmentation = AugmentationSpec(lowest=0.1, highest=1.0, default=0.3, schedule=TABLE)
    spec = replace(
        stages_of(tiny)[1], augmentation=augmentation, enlarge="bilinear_corners", steps=1
    )
    engine = FakeEngine(prediction=np.zeros((1, 3, 16, 16), np.float32))
    picture = np.full((8, 8, 3), 255, np.uint8)
    handoff = Handoff(context=np.ones((2, WIDTH), np.float16), image=picture)
    list(DiffusionStage(spec, 2, engine).run(GenerateRequest(seed=6), handoff))
    noise = normals((1, 3, 16, 16), seed=6, image=0, stage=2, step=AUGMENTATION)
    power = TABLE.alpha_bar[2]
    expected = math.sqrt(power) + math.sqrt(1 - power) * noise
    (asked,) = engine.asked
    np.testing.assert_allclose(asked["low_res"], expected, atol=1e-5)
    assert asked["aug_level"].tolist() == [np.float32(0.3)]


def test_a_fixed_number_of_tokens_is_checked(tiny: Manifest) -> None:
    """A graph that takes 77 tokens refuses 5 with a typed error."""
    graph = stages_of(tiny)[0].graph
    inputs = tuple(
        replace(i, shape=("batch", 77, WIDTH)) if i.name == "context" else i for i in graph.inputs
    )
    spec = replace(stages_of(tiny)[0], graphs={NET: replace(graph, inputs=inputs)})
    with pytest.raises(InvalidRequest, match=r"expected \[77, 8\]"):
        check_context(spec, Handoff(context=np.ones((5, WIDTH), np.float16)))


def padded_stage(spec: TextEncoderSpec) -> tuple[TextEncoderStage, FakeEngine]:
    """A text encoder that answers with zeros, `max_tokens` rows of them."""
    engine = FakeEngine(context=np.zeros((1, spec.max_tokens, spec.makes.width), np.float32))
    words = PromptTokenizer(tokenizer_json(), spec.max_tokens)
    return TextEncoderStage(spec, words, engine), engine


def test_a_padded_prompt_keeps_all_its_rows(tiny: Manifest) -> None:
    """Padding fills up to the limit, masked out, and its rows belong to the context."""
    spec = replace(encoder_of(tiny), pad_token=4, max_tokens=6)
    stage, engine = padded_stage(spec)
    *_, last = stage.run(GenerateRequest(), Handoff(prompt="a red cat"))
    assert isinstance(last, StageFinished)
    assert last.handoff.context is not None
    assert last.handoff.context.shape == (6, WIDTH)
    (asked,) = engine.asked
    known = [WORDS.index(word) for word in ("a", "red", "cat")]
    assert asked["token_ids"].tolist() == [[*known, 4, 4, 4]]
    assert asked["token_mask"].tolist() == [[1, 1, 1, 0, 0, 0]]


def test_a_bundle_with_a_stored_context_opens(tmp_path: Path) -> None:
    """The null context lies in the folder as one more listed file."""
    bundle = write_tiny_bundle(tmp_path / "tiny")
    data = np.ones((2, WIDTH), "<f2").tobytes()
    manifest = bundle.manifest
    entry = replace(
        manifest.files[0],
        name="base.null",
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
    )
    stored = StoredContext(file="base.null", tokens=2)
    stages = (replace(stages_of(manifest)[0], null_context=stored), *stages_of(manifest)[1:])
    changed = replace(
        manifest, components=(encoder_of(manifest), *stages), files=(*manifest.files, entry)
    )
    (bundle.folder / "base.null").write_bytes(data)
    (bundle.folder / "manifest.json").write_text(write_manifest(changed))
    opened = open_bundle(bundle.folder)
    opened.verify_files()
    image = normals((1, 3, 8, 8), seed=1, image=0, stage=0, step=0)
    engine = FakeEngine(prediction=image)
    stage = open_stage(opened, 1, EnginePlan(), lambda _graph, _choice: engine)
    list(stage.run(GenerateRequest(), Handoff(context=np.zeros((2, WIDTH), np.float16))))
    np.testing.assert_array_equal(engine.asked[0]["context"][1, :2], np.ones((2, WIDTH)))
    assert engine.asked[0]["context_mask"][1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert not engine.asked[0]["context"][1, 2:].any()
