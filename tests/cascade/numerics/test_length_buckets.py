"""Lengths of texts: a few for every engine, masked beyond the text, and never on the wire."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.options import check_context
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, EngineKind, installed_kinds, open_engine
from cascade.errors import InvalidRequest
from cascade.events import StageFinished
from cascade.graph_spec import NET, TensorSpec
from cascade.numerics.length_buckets import LENGTHS, bucket_length, pad_tokens
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.types import Array
from tests.support.manifests import encoder_of, stages_of
from tests.support.tiny_bundle import MAX_TOKENS, WIDTH, write_tiny_bundle

REFERENCE = Path(__file__).resolve().parents[3] / "bundles" / "emoji-1"
CPU_KINDS = [kind for kind in installed_kinds() if kind in (EngineKind.ORT, EngineKind.OPENVINO)]

COUNTED = ("token_ids", "token_mask", "context", "context_mask")
"""Inputs whose second axis counts tokens."""


class ShapeKeeper:
    """An engine that keeps the shapes that it was asked for, and answers with zeros."""

    def __init__(self) -> None:
        self.shapes: set[tuple[tuple[int, ...], ...]] = set()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Zeros, of whatever shape fits."""
        self.shapes.add(tuple(value.shape for _, value in sorted(inputs.items())))
        if "token_ids" in inputs:
            return {"context": np.zeros((*inputs["token_ids"].shape, WIDTH), np.float32)}
        return {"prediction": np.zeros_like(inputs["x_t"])}

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("lengths") / "bundle")


def context_of(tokens: int) -> Array:
    """Embeddings without a zero."""
    values = 1 + np.arange(tokens * WIDTH, dtype=np.float32) % 7
    return values.reshape(tokens, WIDTH).astype(np.float16)


@pytest.mark.parametrize(
    ("tokens", "longest", "length"),
    [
        *((1, 512, 8), (8, 512, 8), (9, 512, 16), (50, 512, 64), (129, 512, 192), (512, 512, 512)),
        *((9, 12, 12), (12, 12, 12), (50, 60, 60), (3, 5, 5), (600, 512, 600)),
    ],
)
def test_lengths_are_rounded_up(tokens: int, longest: int, length: int) -> None:
    """To the next of the list, to what the graph can take, and never down."""
    assert bucket_length(tokens, longest) == length


def test_rounding_costs_at_most_half() -> None:
    """From 9 tokens on less than twice the text; from 17 on at most half as much again."""
    for tokens in range(9, 513):
        assert bucket_length(tokens) < 2 * tokens
        assert tokens < 17 or bucket_length(tokens) <= 1.5 * tokens
    assert all(length % 8 == 0 for length in LENGTHS)


def test_every_prompt_is_one_of_a_few_shapes_to_the_text_encoder(tiny: Bundle) -> None:
    """Prompts of every length that is allowed; what leaves the stage is as long as the text."""
    spec = replace(encoder_of(tiny.manifest), max_tokens=300)
    words = PromptTokenizer(tiny.read(spec.tokenizer_file), 300)
    engine = ShapeKeeper()
    stage = TextEncoderStage(spec, words, engine)
    for count in range(1, 300):
        *_, event = stage.run(GenerateRequest(), Handoff(prompt="cat " * count))
        assert isinstance(event, StageFinished)
        assert event.handoff.context is not None
        assert len(event.handoff.context) == len(words("cat " * count))
    assert len(engine.shapes) <= len(LENGTHS)
    assert MAX_TOKENS <= 300


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_every_context_is_one_of_a_few_shapes_to_a_stage(tiny: Bundle, guidance: float) -> None:
    """Contexts of every length that a caller may send, with the null half and without."""
    spec = stages_of(tiny.manifest)[0]
    engine = ShapeKeeper()
    stage = DiffusionStage(spec, 1, engine)
    options = {spec.name: DiffusionOptions(steps=1, guidance=guidance)}
    for tokens in range(1, 513):
        list(stage.run(GenerateRequest(options=options), Handoff(context=context_of(tokens))))
    assert len(engine.shapes) == len(LENGTHS)


@pytest.mark.parametrize("tokens", [1, 3, 8, 11])
def test_what_is_added_is_zero_and_masked(tiny: Bundle, tokens: int) -> None:
    """The text first, as it was; the mask says where it ends."""
    context = context_of(tokens)
    inputs = check_context(stages_of(tiny.manifest)[0], Handoff(context=context))
    np.testing.assert_array_equal(inputs["context"][0, :tokens], context)
    assert not inputs["context"][0, tokens:].any()
    length = bucket_length(tokens)
    assert inputs["context_mask"].tolist() == [[1.0] * tokens + [0.0] * (length - tokens)]


def with_inputs(spec: DiffusionSpec, inputs: list[TensorSpec]) -> DiffusionSpec:
    """The same stage with other inputs of its graph."""
    return replace(spec, graphs={NET: replace(spec.graph, inputs=tuple(inputs))})


def test_graphs_without_a_mask_or_of_one_length_see_the_text_alone(tiny: Bundle) -> None:
    """What no mask can leave out is not added."""
    spec = stages_of(tiny.manifest)[0]
    maskless = with_inputs(spec, [i for i in spec.graph.inputs if i.name != "context_mask"])
    assert check_context(maskless, Handoff(context=context_of(5)))["context"].shape[1] == 5
    fixed = [
        replace(i, shape=(i.shape[0], 5, *i.shape[2:])) if i.name.startswith("context") else i
        for i in spec.graph.inputs
    ]
    inputs = check_context(with_inputs(spec, fixed), Handoff(context=context_of(5)))
    assert inputs["context_mask"].tolist() == [[1.0] * 5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_context_that_is_not_finite_names_its_field(tiny: Bundle, value: float) -> None:
    """An 8-bit graph would make ordinary numbers of it: it is refused before."""
    context = context_of(3)
    context[1, 2] = value
    with pytest.raises(InvalidRequest, match=r"context\.data: holds NaN or infinity") as caught:
        check_context(stages_of(tiny.manifest)[0], Handoff(context=context))
    assert caught.value.field == "context.data"


@pytest.fixture(scope="module", params=CPU_KINDS)
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, Engine]]:
    """The reference encoder and first stage on an engine, opened once: what takes a second."""
    bundle = open_bundle(REFERENCE)
    choice = EngineChoice(request.param, Precision.FP32, 1)
    specs = (encoder_of(bundle.manifest), stages_of(bundle.manifest)[0])
    encoder, base = (open_engine(bundle.read(spec.graph.file), choice) for spec in specs)
    yield encoder, base
    for engine in (encoder, base):
        engine.close()


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="bundles/emoji-1 IS MISSING")
@pytest.mark.parametrize("tokens", [3, 9, 20])
def test_masked_tokens_change_rounding_alone(opened: tuple[Engine, Engine], tokens: int) -> None:
    """The reference networks answer with the added tokens as without them, but for rounding."""
    base = stages_of(open_bundle(REFERENCE).manifest)[0]
    rng = np.random.default_rng(tokens)
    ids = rng.integers(5, 20_000, (1, tokens))
    text: dict[str, Array] = {"token_ids": ids, "token_mask": np.ones((1, tokens), np.float32)}
    picture = dummy_inputs(base, free_axes(base, batch=1, tokens=tokens))
    picture["context"] = rng.standard_normal(picture["context"].shape).astype(np.float32)
    picture["context_mask"] = np.ones((1, tokens), np.float32)
    given, names = (text, picture), ("context", "prediction")
    for engine, inputs, output in zip(opened, given, names, strict=True):
        longer = {
            name: pad_tokens(value, bucket_length(tokens)) if name in COUNTED else value
            for name, value in inputs.items()
        }
        alone, masked = (engine.run(each)[output] for each in (inputs, longer))
        kept = masked[:, :tokens] if output == "context" else masked
        np.testing.assert_allclose(kept, alone, rtol=0, atol=3e-5)
