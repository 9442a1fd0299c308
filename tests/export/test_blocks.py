"""Weights in blocks of 4 and 8 bits: within half a step, multiplied as defined, proven, refused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.graph_spec import CONTEXT_DB
from cascade.precision import BLOCKS, Precision
from cascade.weights.source import ExternalGraph, GraphSource, graph_data
from export import streamed
from export.blocks.block_weight import BlockForm, dequantize, packed, quantize
from export.blocks.graph import FORMS, make_block_graph
from export.blocks.products import find_products
from export.components import blocks
from export.components.blocks import judge_context, with_blocks
from export.components.component import (
    ExportJob,
    ExportOptions,
    ProvenGraph,
    WeightsPlace,
    prove_network,
)
from export.components.text_encoder import network_source
from export.description import TextEncoderDescription

RNG = np.random.default_rng(5)
WIDTH = 64
ALL = frozenset({Precision.FP32, *BLOCKS})
PLACES: tuple[WeightsPlace, ...] = ("inside", "beside")


def matrix(inner: int, outputs: int) -> np.ndarray:
    """Columns of very different size, some of them one-sided, zero, or too small for a step."""
    value = RNG.standard_normal((inner, outputs)) * np.exp(RNG.uniform(-20, 5, outputs))
    value[:, 0], value[:, 1], value[:, 2] = 0, np.abs(value[:, 1]) + 9, 1e-44
    return value.astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", ["symmetric", "asymmetric"])
@pytest.mark.parametrize(("size", "inner"), [(32, 96), (64, 65), (32, 7)])
def test_every_value_is_within_half_a_step(bits: Any, zeros: Any, size: int, inner: int) -> None:
    """`(level - zero) * scale`, also where the last block is longer than the matrix."""
    value, form = matrix(inner, 12), BlockForm(bits, size, zeros)
    found = quantize(value, form)
    steps = np.repeat(found.scales.T, size, axis=0)[:inner]
    missed = np.abs(dequantize(found, inner) - value)
    assert (missed <= steps * 0.5001).all()
    assert found.levels.max() <= form.largest
    rest = found.levels.reshape(12, -1)[:, inner:]
    assert (rest == np.repeat(found.zeros, size, axis=1)[:, inner:]).all()


def test_slices_are_quantised_like_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that is larger than what is quantised at once."""
    value, form = matrix(64, 12), BlockForm(4)
    whole = quantize(value, form)
    monkeypatch.setattr("export.blocks.block_weight.SLICE_VALUES", 5 * 64)
    sliced = quantize(value, form)
    for name in ("levels", "scales", "zeros"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(sliced, name))


def test_two_levels_lie_in_a_byte() -> None:
    """The first one low; an odd one is alone."""
    levels = np.array([[1, 2, 15]], np.uint8)
    assert packed(levels, 4).tolist() == [[0x21, 0x0F]]
    assert packed(levels, 8) is levels


def product_graph(*, turned: bool) -> onnx.ModelProto:
    """`x @ w`, and the same matrix once more with something added, as `Gemm` where it is turned."""
    weight = RNG.standard_normal((80, 72)).astype(np.float32)
    bias = RNG.standard_normal(72).astype(np.float32)
    if turned:
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
        weight = np.ascontiguousarray(weight.T)
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["h"])]
        nodes += [helper.make_node("MatMul", ["x", "w"], ["g"])]
        nodes += [helper.make_node("Add", ["h", "g"], ["y"])]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in (("x", 80), ("y", 72))
    ]
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    return made


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_engines_multiply_by_what_the_definition_says(form: BlockForm, *, turned: bool) -> None:
    """Products and their turned form; a matrix that two of them read is stored once."""
    model = product_graph(turned=turned)
    made = make_block_graph(model, form)
    assert made is not None
    graph = onnx.load_from_string(made.data)
    assert [n.op_type for n in graph.graph.node].count("MatMulNBits") == 2 - turned
    assert sum(t.data_type == TensorProto.UINT8 for t in graph.graph.initializer) == 2
    weight = numpy_helper.to_array(model.graph.initializer[0])
    bias = numpy_helper.to_array(model.graph.initializer[1])
    true = dequantize(quantize(weight.T if turned else weight, form), 80)
    # Rows of one number each: exact in eight bits too.
    x = np.eye(80, dtype=np.float32)
    found = OrtEngine(made.data, threads=1).run({"x": x})["y"]
    np.testing.assert_allclose(found, true + bias if turned else 2 * true, atol=2e-5)


class WordNetwork(nn.Module):
    """A table and two layers: most of its weights are matrices."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(97, WIDTH)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, WIDTH))

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """`[B, L]` numbers and mask to `[B, L, WIDTH]`."""
        return self.layers(self.table(token_ids)) * token_mask[..., None]


CASES: list[Mapping[str, np.ndarray]] = [
    {
        "token_ids": RNG.integers(0, 97, (2, 5)),
        "token_mask": np.array([[1, 1, 1, 0, 0], [1] * 5], np.float32),
    }
]
ENCODER = TextEncoderDescription(
    network=WordNetwork().eval().requires_grad_(requires_grad=False),
    tokenizer=b"",
    max_tokens=5,
    context_width=WIDTH,
    provenance="tests",
)


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProvenGraph]:
    """The network's float32 graph by where its weights lie."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        # The tests' weights are large enough to lie beside a graph.
        patch.setattr(streamed, "LEAST_BYTES", 1 << 10)
        for place in PLACES:
            job = ExportJob(
                encoder=replace(ENCODER, network=WordNetwork().eval()), prompts=(),
                options=ExportOptions(precisions=ALL, weights=place),
                requires_gpu_forms=False, report=lambda _line: None,
                folder=tmp_path_factory.mktemp("weights"),
            )  # fmt: skip
            found[place] = prove_network(job, network_source(job.encoder, CASES))
    return found


def blocks_of(proven: ProvenGraph, lines: list[str]) -> ProvenGraph:
    """The graph with a variant for every precision in blocks."""
    return with_blocks(proven, ALL, judge_context(proven), lines.append)


def graph_of(proven: ProvenGraph, precision: Precision) -> GraphSource:
    """What runs a variant."""
    made = blocks.made_file(proven, "text_encoder", precision)
    assert made is not None
    return made.graph


def test_an_encoder_has_the_same_blocks_inside_and_beside(proven: dict[str, ProvenGraph]) -> None:
    """Both forms state how close their embeddings are, and answer the same."""
    lines: list[str] = []
    for place in PLACES:
        found = {v.precision: v.quality for v in blocks_of(proven[place], lines).spec.variants}
        assert list(found) == [Precision.INT8_BLOCK, Precision.INT4_BLOCK]
        assert {quality.metric for quality in found.values()} == {CONTEXT_DB}
        assert found[Precision.INT8_BLOCK].value > 45 > found[Precision.INT4_BLOCK].value > 30
    assert sum("text_encoder  int4-block: 2 products" in line for line in lines) == 2
    for precision in BLOCKS:
        one, other = (graph_of(proven[place], precision) for place in PLACES)
        assert isinstance(other, ExternalGraph)
        np.testing.assert_allclose(
            OrtEngine(one, threads=1).run(CASES[0])["context"],
            OrtEngine(other, threads=1).run(CASES[0])["context"],
            atol=1e-5,
        )


def test_four_bits_are_smaller_than_eight(proven: dict[str, ProvenGraph]) -> None:
    """And eight smaller than float32."""
    inside = proven["inside"]
    sizes = [
        len(graph_data(graph_of(inside, p))) for p in (Precision.INT4_BLOCK, Precision.INT8_BLOCK)
    ]
    assert sizes == sorted(sizes)
    assert sizes[1] < len(inside.files["text_encoder.onnx"])


@pytest.mark.parametrize("place", PLACES)
def test_embeddings_below_the_floor_are_not_written(
    place: str, proven: dict[str, ProvenGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out with the reason; refused where the file of weights has them already."""
    monkeypatch.setattr(blocks, "MIN_CONTEXT_DB", dict.fromkeys(BLOCKS, 150.0))
    lines: list[str] = []
    if place == "beside":
        with pytest.raises(ParityError, match=r"int8-block reaches context .* --precisions"):
            blocks_of(proven[place], lines)
        return
    assert not blocks_of(proven[place], lines).spec.variants
    assert sum("the floor is 150.0" in line for line in lines) == 2


def test_exact_networks_have_no_blocks() -> None:
    """Their results would be others."""
    source = network_source(replace(ENCODER, exact=True), CASES)
    assert not ExportOptions(precisions=ALL).blocks_for(source)


def test_networks_of_convolutions_have_no_blocks() -> None:
    """Matrices hold too little of their weights, and small ones stay as they are."""
    model = product_graph(turned=False)
    big = numpy_helper.from_array(np.zeros((300, 200, 3, 3), np.float32), "b")
    model.graph.initializer[1].CopyFrom(big)
    assert find_products(model)
    assert make_block_graph(model, FORMS[Precision.INT4_BLOCK]) is None
