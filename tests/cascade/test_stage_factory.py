"""The stages of a bundle: what they ask of the network, what they yield, what they refuse."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import augment, upsample
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec, GuidanceSpec, ThresholdSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.engines.factory import EngineChoice, EngineKind
from cascade.errors import Cancelled, InvalidRequest, ManifestError, StageError
from cascade.events import Event, Preview, Progress, StageFinished
from cascade.generate import generate
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.stage_factory import open_stage, open_stages
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from cascade.tuning.plan import EnginePlan
from cascade.types import Array, ImageU8
from tests.support.manifests import encoder_of, square
from tests.support.tiny_bundle import MAX_TOKENS, WIDTH, write_tiny_bundle

PROMPT = "a red apple, noto style"
CONTEXT = np.linspace(-1, 1, 3 * WIDTH).reshape(3, WIDTH).astype(np.float16)
SMALL = np.random.default_rng(5).integers(0, 256, (8, 8, 3), np.uint8)


class CountingEngine:
    """Writes down its inputs; predicts `cond` where text is seen and `uncond` where it is not."""

    def __init__(self, cond: float = 0.5, uncond: float = 0.25) -> None:
        self.cond = cond
        self.uncond = uncond
        self.calls: list[dict[str, Array]] = []
        self.terminated = 0
        self.closed = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One flat picture per row."""
        self.calls.append({name: value.copy() for name, value in inputs.items()})
        seen = inputs["context_mask"].max(axis=1)[:, None, None, None]
        flat = np.where(seen > 0, np.float32(self.cond), np.float32(self.uncond))
        return {"prediction": np.broadcast_to(flat, inputs["x_t"].shape).copy()}

    def terminate(self) -> None:
        """Count."""
        self.terminated += 1

    def close(self) -> None:
        """Count."""
        self.closed += 1


class OtherShape(CountingEngine):
    """Predicts something of another shape."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One row too few in height."""
        return {"prediction": super().run(inputs)["prediction"][:, :, 1:]}


class FlatEncoder:
    """A text encoder whose context has the width that it is told."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.calls: list[Mapping[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Thirds everywhere."""
        self.calls.append(inputs)
        return {"context": np.full((*inputs["token_ids"].shape, self.width), 1 / 3, np.float32)}

    def terminate(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to release."""


THREE_OF_EIGHT = [1.0] * 3 + [0.0] * 5
"""The mask of three tokens, shown to the engine at the next full length."""

LOCAL = EnginePlan(threads=1)
"""How these tests run graphs: ONNX Runtime in float32."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, three steps per stage."""
    return write_tiny_bundle(tmp_path_factory.mktemp("stages") / "bundle")


@pytest.fixture(scope="module")
def stages(bundle: Bundle) -> list[Stage]:
    """All its stages on ONNX Runtime."""
    return open_stages(bundle, range(4), LOCAL)


def spec_of(bundle: Bundle, position: int) -> DiffusionSpec:
    """A diffusion component's entry in the manifest."""
    spec = bundle.manifest.components[position]
    assert isinstance(spec, DiffusionSpec)
    return spec


def run(
    stage: Stage,
    options: DiffusionOptions | None = None,
    *,
    image: ImageU8 | None = None,
    **asked: int,
) -> list[Event]:
    """All events of one stage."""
    name = stage.names[0]
    request = GenerateRequest(options={name: options or DiffusionOptions()}, **asked)
    return list(stage.run(request, Handoff(context=CONTEXT, image=image)))


def finished(events: Sequence[Event]) -> ImageU8:
    """The picture of the last event."""
    last = events[-1]
    assert isinstance(last, StageFinished)
    assert last.handoff.image is not None
    return last.handoff.image


def picture(stages: Sequence[Stage], **asked: object) -> ImageU8:
    """The whole cascade's picture."""
    request = GenerateRequest(**{"prompt": PROMPT, **asked})  # type: ignore[arg-type]
    return finished(list(generate(stages, request)))


def test_the_same_request_gives_the_same_picture(stages: list[Stage]) -> None:
    """Twice the same request: identical pixels, of the last stage's size."""
    first = picture(stages, seed=7)
    assert first.shape == (32, 32, 3)
    assert first.std() > 1
    np.testing.assert_array_equal(picture(stages, seed=7), first)


@pytest.mark.parametrize(
    "other",
    [{"seed": 8}, {"seed": 7 + 2**32}, {"image_index": 1}, {"prompt": "a green cat, noto style"}],
)
def test_another_request_gives_another_picture(
    stages: list[Stage], other: dict[str, object]
) -> None:
    """Seed, image number and prompt each change the picture."""
    assert (picture(stages, **{"seed": 7, **other}) != picture(stages, seed=7)).any()


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_run_may_be_cut_anywhere(stages: list[Stage], cut: int) -> None:
    """Starting again from what was handed on gives the very same picture."""
    request = GenerateRequest(prompt=PROMPT, seed=3)
    half = list(generate(stages[:cut], request))[-1]
    assert isinstance(half, StageFinished)
    rest = GenerateRequest(seed=3)
    np.testing.assert_array_equal(
        finished(list(generate(stages[cut:], rest, half.handoff))), picture(stages, seed=3)
    )


def test_events_of_a_stage(stages: list[Stage]) -> None:
    """One progress per step, counted from 1, then the result with the time it took."""
    *steps, last = run(stages[1], DiffusionOptions(steps=4))
    assert steps == [Progress("base", n, 4) for n in (1, 2, 3, 4)]
    assert isinstance(last, StageFinished)
    assert last.stage == "base"
    assert last.seconds["base"] > 0
    assert last.handoff.context is CONTEXT


def test_default_steps_are_the_bundles(stages: list[Stage]) -> None:
    """Without a choice the manifest's number of steps is run."""
    assert sum(isinstance(e, Progress) for e in run(stages[1])) == 3


@pytest.mark.parametrize(
    ("every", "steps", "at"), [(0, 5, []), (1, 3, [1, 2]), (2, 5, [2, 4]), (2, 4, [2]), (9, 4, [])]
)
def test_previews_come_when_asked_for(
    stages: list[Stage], every: int, steps: int, at: list[int]
) -> None:
    """A preview after every so many steps, none after the last, whose picture follows anyway."""
    events = run(stages[1], DiffusionOptions(steps=steps), preview_every=every)
    previews = [e for e in events if isinstance(e, Preview)]
    assert [p.done for p in previews] == at
    assert all(p.image.shape == (8, 8, 3) and p.image.dtype == np.uint8 for p in previews)


def test_large_previews_are_thinned(bundle: Bundle) -> None:
    """Previews of a stage beyond 256 pixels leave rows and columns out; the result does not."""
    spec = replace(spec_of(bundle, 1), makes=square(512), steps=2)
    events = run(DiffusionStage(spec, 1, CountingEngine()), preview_every=1)
    assert [e.image.shape for e in events if isinstance(e, Preview)] == [(256, 256, 3)]
    assert finished(events).shape == (512, 512, 3)


def test_without_guidance_the_network_sees_one_row(bundle: Bundle) -> None:
    """Weight 1 runs the network once per step, on one row with the whole text and a full length."""
    engine = CountingEngine()
    run(DiffusionStage(spec_of(bundle, 1), 1, engine), DiffusionOptions(steps=5, guidance=1.0))
    assert [len(call["x_t"]) for call in engine.calls] == [1] * 5
    assert all(call["context_mask"].tolist() == [THREE_OF_EIGHT] for call in engine.calls)
    for call in engine.calls:
        np.testing.assert_array_equal(call["context"][0, :3], CONTEXT)
        assert not call["context"][0, 3:].any()


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_guidance_runs_two_rows(bundle: Bundle, weight: float) -> None:
    """Other weights: one run per step on two rows, equal but for the second's mask, all zero."""
    engine = CountingEngine()
    run(DiffusionStage(spec_of(bundle, 1), 1, engine), DiffusionOptions(steps=4, guidance=weight))
    assert len(engine.calls) == 4
    for call in engine.calls:
        assert call["context_mask"].tolist() == [THREE_OF_EIGHT, [0.0] * 8]
        for name in ("x_t", "t", "context"):
            np.testing.assert_array_equal(*call[name])


@pytest.mark.parametrize(("weight", "value"), [(0.0, 0.25), (1.0, 0.5), (2.0, 0.75), (2.5, 0.875)])
def test_guidance_combines_both_answers(bundle: Bundle, weight: float, value: float) -> None:
    """The picture is `uncond + w (cond - uncond)`: here 1/4 + w/4 in every pixel."""
    stage = DiffusionStage(spec_of(bundle, 1), 1, CountingEngine())
    result = finished(run(stage, DiffusionOptions(guidance=weight)))
    assert (result == from_network(np.full((1, 3, 1, 1), value, np.float32))).all()


def test_default_guidance_is_the_bundles(bundle: Bundle) -> None:
    """Without a choice the manifest's weight counts: 2 for the tiny base stage."""
    result = finished(run(DiffusionStage(spec_of(bundle, 1), 1, CountingEngine())))
    assert (result == from_network(np.full((1, 3, 1, 1), 0.75, np.float32))).all()


def test_oscillating_guidance_alternates(bundle: Bundle) -> None:
    """High for the first steps, then low and high in turn; a low weight of 1 costs one row."""
    guidance = GuidanceSpec(kind="oscillating", weight=3.0, low_weight=1.0, first_steps=2)
    spec = replace(spec_of(bundle, 1), guidance=guidance)
    engine = CountingEngine()
    run(DiffusionStage(spec, 1, engine), DiffusionOptions(steps=6))
    assert [len(call["x_t"]) for call in engine.calls] == [2, 2, 1, 2, 1, 2]
    engine.calls.clear()
    run(DiffusionStage(spec, 1, engine), DiffusionOptions(steps=2, guidance=1.0))
    assert [len(call["x_t"]) for call in engine.calls] == [1, 1]


@pytest.mark.parametrize(("kind", "level"), [("static", 255), ("dynamic", 255)])
def test_estimates_are_kept_in_range(bundle: Bundle, kind: str, level: int) -> None:
    """An estimate far beyond white becomes white with either thresholding."""
    threshold = ThresholdSpec(kind=kind)  # type: ignore[arg-type]
    spec = replace(spec_of(bundle, 1), threshold=threshold, sampler="ddim")
    stage = DiffusionStage(spec, 1, CountingEngine(cond=7.0))
    assert (finished(run(stage, DiffusionOptions(guidance=1.0))) == level).all()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "stochastic"])
def test_every_sampler_runs_every_step(bundle: Bundle, sampler: str) -> None:
    """Whatever the manifest names, the times fall from 1 and the last estimate is the result."""
    spec = replace(spec_of(bundle, 1), sampler=sampler)  # type: ignore[arg-type]
    engine = CountingEngine()
    events = run(DiffusionStage(spec, 1, engine), DiffusionOptions(steps=4, guidance=1.0))
    times = [float(call["t"][0]) for call in engine.calls]
    assert times[0] == 1.0
    assert times == sorted(times, reverse=True)
    assert sum(isinstance(e, Progress) for e in events) == 4
    assert (finished(events) == from_network(np.full((1, 3, 1, 1), 0.5, np.float32))).all()


def test_the_first_noise_is_addressed(bundle: Bundle) -> None:
    """A run starts from the noise of its seed, image and stage, and of no other."""
    engine = CountingEngine()
    run(DiffusionStage(spec_of(bundle, 1), 1, engine), seed=9, image_index=4)
    expected = normals((1, 3, 8, 8), seed=9, image=4, stage=1, step=START)
    np.testing.assert_array_equal(engine.calls[0]["x_t"][:1], expected)


def test_augmentation_zero_shows_the_enlarged_picture(bundle: Bundle) -> None:
    """At level 0 the network sees the smaller picture, enlarged and otherwise untouched."""
    engine = CountingEngine()
    run(
        DiffusionStage(spec_of(bundle, 2), 2, engine),
        DiffusionOptions(augmentation=0.0),
        image=SMALL,
    )
    for call in engine.calls:
        np.testing.assert_array_equal(call["low_res"], upsample(to_network(SMALL), 2))
        assert call["aug_level"].tolist() == [0.0]


@pytest.mark.parametrize("level", [None, 0.1, 0.5])
def test_augmentation_adds_addressed_noise(bundle: Bundle, level: float | None) -> None:
    """Above 0 the picture is noised to that level, from its own draw; 0.1 is the tiny default."""
    engine = CountingEngine()
    stage = DiffusionStage(spec_of(bundle, 2), 2, engine)
    run(stage, DiffusionOptions(augmentation=level, guidance=2.0), image=SMALL, seed=6)
    noise = normals((1, 3, 16, 16), seed=6, image=0, stage=2, step=AUGMENTATION)
    level = 0.1 if level is None else level
    expected = augment(upsample(to_network(SMALL), 2), level, noise)
    for call in engine.calls:
        for row in range(2):
            np.testing.assert_array_equal(call["low_res"][row], expected[0])
        assert call["aug_level"].tolist() == [np.float32(level)] * 2


def test_closing_stops_the_network(bundle: Bundle) -> None:
    """Who closes the iterator after two steps pays for two steps."""
    engine = CountingEngine()
    stage = DiffusionStage(spec_of(bundle, 1), 1, engine)
    request = GenerateRequest(options={"base": DiffusionOptions(steps=50)})
    events = stage.run(request, Handoff(context=CONTEXT))
    assert len(list(islice(events, 2))) == 2
    events.close()  # type: ignore[attr-defined]
    assert list(events) == []
    assert len(engine.calls) == 2


@pytest.mark.parametrize(
    ("position", "level", "field"),
    [
        (1, 0.0, "options.base.augmentation"),
        (1, 0.2, "options.base.augmentation"),
        (2, 0.51, "options.sr16.augmentation"),
        (3, 1.0, "options.sr32.augmentation"),
    ],
)
def test_an_option_that_does_not_fit_is_named(
    bundle: Bundle, position: int, level: float, field: str
) -> None:
    """Augmentation of a stage without an image, or beyond its range, is refused before any work."""
    engine = CountingEngine()
    stage = DiffusionStage(spec_of(bundle, position), position, engine)
    with pytest.raises(InvalidRequest) as caught:
        run(stage, DiffusionOptions(augmentation=level), image=SMALL)
    assert caught.value.field == field
    assert not engine.calls


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (None, "context"),
        (np.zeros((3, WIDTH + 1), np.float16), "context.shape"),
        (np.zeros((0, WIDTH), np.float16), "context.shape"),
        (np.zeros((513, WIDTH), np.float16), "context.shape"),
        (np.zeros(WIDTH, np.float16), "context.shape"),
        (np.zeros((1, 3, WIDTH), np.float16), "context.shape"),
    ],
)
def test_a_context_that_does_not_fit_is_named(
    bundle: Bundle, context: Array | None, field: str
) -> None:
    """Missing, empty, too long, too wide or of another rank: refused by name before any work."""
    engine = CountingEngine()
    stage = DiffusionStage(spec_of(bundle, 1), 1, engine)
    with pytest.raises(InvalidRequest) as caught:
        list(stage.run(GenerateRequest(), Handoff(context=context)))
    assert caught.value.field == field
    assert not engine.calls


@pytest.mark.parametrize("shape", [None, (16, 16, 3), (8, 16, 3), (8, 8, 4), (8, 8), (1, 8, 8, 3)])
def test_an_image_that_does_not_fit_is_named(bundle: Bundle, shape: tuple[int, ...] | None) -> None:
    """Super-resolution takes exactly its input resolution in RGB."""
    engine = CountingEngine()
    stage = DiffusionStage(spec_of(bundle, 2), 2, engine)
    image = None if shape is None else np.zeros(shape, np.uint8)
    with pytest.raises(InvalidRequest, match="8x8") as caught:
        run(stage, image=image)
    assert caught.value.field == "image"
    assert not engine.calls


def test_a_prediction_of_another_shape_is_a_broken_stage(bundle: Bundle) -> None:
    """An engine that answers with another shape is found out at once."""
    with pytest.raises(StageError, match="expected shape"):
        run(DiffusionStage(spec_of(bundle, 1), 1, OtherShape()))


def test_terminate_and_close_reach_the_engine(bundle: Bundle) -> None:
    """The stage hands both on, and preparing early does nothing."""
    engine = CountingEngine()
    stage = DiffusionStage(spec_of(bundle, 1), 1, engine)
    stage.prefetch(Handoff(prompt="a"))
    stage.terminate()
    stage.close()
    assert (engine.terminated, engine.closed, engine.calls) == (1, 1, [])


def test_an_engine_that_is_ended_ends_the_stage(bundle: Bundle) -> None:
    """Cancelled passes through the sampler to the caller."""

    class Ended(CountingEngine):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            if len(self.calls) == 2:
                raise Cancelled("ended")
            return super().run(inputs)

    seen: list[Event] = []
    stage = DiffusionStage(spec_of(bundle, 1), 1, Ended())
    with pytest.raises(Cancelled):
        seen.extend(stage.run(GenerateRequest(), Handoff(context=CONTEXT)))


def test_the_text_stage_gives_the_real_tokens(stages: list[Stage]) -> None:
    """One row of half-precision numbers per token, the table's; prompt and times come along."""
    (event,) = stages[0].run(GenerateRequest(), Handoff(prompt="a red zebra"))
    assert isinstance(event, StageFinished)
    context = event.handoff.context
    assert context is not None
    table = np.random.default_rng(7).standard_normal((9, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(context, table[[1, 2, 0]].astype(np.float16))
    assert context.dtype == np.float16
    assert event.handoff.prompt == "a red zebra"
    assert set(event.seconds) == {"tokenise", "encode"}


def test_the_text_stage_needs_a_prompt(stages: list[Stage]) -> None:
    """Without a prompt, or with one too long, the field is named."""
    for prompt in (None, "cat " * (MAX_TOKENS + 1)):
        with pytest.raises(InvalidRequest) as caught:
            list(stages[0].run(GenerateRequest(), Handoff(prompt=prompt)))
        assert caught.value.field == "prompt"


def test_the_text_stage_masks_what_it_adds(bundle: Bundle) -> None:
    """One batch row, the real tokens, then masked ones up to the next full length."""
    spec = encoder_of(bundle.manifest)
    engine = FlatEncoder(WIDTH)
    words = PromptTokenizer(bundle.read("tokenizer.json"), MAX_TOKENS)
    stage = TextEncoderStage(spec, words, engine)
    (event,) = stage.run(GenerateRequest(), Handoff(prompt="a cat"))
    assert engine.calls[0]["token_ids"].tolist() == [[1, 5, 0, 0, 0, 0, 0, 0]]
    assert engine.calls[0]["token_mask"].tolist() == [[1.0] * 2 + [0.0] * 6]
    assert isinstance(event, StageFinished)
    assert event.handoff.context is not None
    assert event.handoff.context.shape == (2, WIDTH)


def test_a_context_of_another_width_is_a_broken_stage(bundle: Bundle) -> None:
    """An encoder whose width is not the manifest's is found out at once."""
    words = PromptTokenizer(bundle.read("tokenizer.json"), MAX_TOKENS)
    stage = TextEncoderStage(encoder_of(bundle.manifest), words, FlatEncoder(WIDTH + 1))
    with pytest.raises(StageError, match="unexpected shape"):
        list(stage.run(GenerateRequest(), Handoff(prompt="a cat")))


def test_stages_are_opened_in_order(bundle: Bundle, stages: list[Stage]) -> None:
    """Each component becomes the stage of its family, with its own name."""
    assert [stage.names for stage in stages] == [("text_encoder",), ("base",), ("sr16",), ("sr32",)]
    assert isinstance(bundle.manifest.components[0], TextEncoderSpec)
    assert isinstance(stages[0], TextEncoderStage)
    assert all(isinstance(stage, DiffusionStage) for stage in stages[1:])
    assert all(isinstance(stage, Stage) for stage in stages)


def test_engines_get_the_checked_bytes(bundle: Bundle) -> None:
    """The factory is called with the bytes of each component's own graph, in any order."""
    given: list[bytes] = []

    def factory(graph: bytes, choice: EngineChoice) -> CountingEngine:
        assert choice == EngineChoice(EngineKind.ORT, Precision.FP32, 1)
        given.append(graph)
        return CountingEngine()

    open_stages(bundle, [3, 1], LOCAL, factory)
    assert sorted(given) == sorted([bundle.read("sr32.onnx"), bundle.read("base.onnx")])


def test_a_changed_graph_reaches_no_engine(tmp_path: Path) -> None:
    """A graph whose hash is wrong is refused before any engine sees it."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    path = bundle.folder / "base.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    def factory(graph: bytes, choice: EngineChoice) -> CountingEngine:
        raise AssertionError(f"called with {len(graph)} bytes")

    with pytest.raises(ManifestError, match="sha256"):
        open_stage(bundle, 1, LOCAL, factory)
