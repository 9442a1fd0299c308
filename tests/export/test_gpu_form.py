"""Forms for GPUs: blocks whole, numbers right, weights borrowed, engines built from them here."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cascade.bundle.bundle import Bundle
from cascade.bundle.gpu_graph import gpu_graph
from cascade.codecs.onnx_operators import whole_blocks
from cascade.codecs.shared_initializers import attach_initializers, missing
from cascade.engines.ort import OrtEngine
from cascade.errors import EngineError, ManifestError
from cascade.graph_spec import FileEntry, GraphSpec, TensorSpec
from cascade.precision import Precision
from cascade.types import Array
from cascade.weights.buffer import WeightBuffer
from cascade.weights.source import ExternalGraph
from export.gpu_variant.cpu_checkable import cpu_checkable
from export.gpu_variant.form import gpu_form
from export.gpu_variant.fused_attention import restore_attention
from export.gpu_variant.half import halve
from export.gpu_variant.strip_initializers import strip_shared_weights
from export.gpu_variant.verify import GpuFormSource, verify_gpu_form
from export.graphs import export_graph
from export.passes.pipeline import optimize
from export.weights.exact_storage import store_exactly
from export.weights.weights_file import new_tensor, write_weights
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.blocks import Attention
from stages.networks.text_encoder import EncoderLayer, TextEncoder, TextEncoderConfig
from tests.export.attention_graphs import KEYS, WIDTH, N, unmasked
from tests.export.conftest import Exported, exported
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_training import TINY_BASE, unet_inputs

FLOAT_TOLERANCE = 1e-5
"""Attention as one operator multiplies in another order."""
HALF_TOLERANCE = 0.02
"""Ten bits of mantissa through some twenty layers of numbers around 1."""

NEEDS_TENSORRT = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="tensorrt_rtx IS MISSING: no engine was built of the networks",
)


@pytest.fixture(scope="module")
def two_levels() -> Exported:
    """A base stage with every kind of block: down, up, skip, self-attention joined with text."""
    return exported(TINY_BASE)


@pytest.fixture(scope="module")
def encoder() -> tuple[TextEncoder, onnx.ModelProto]:
    """The text encoder's class with two small layers."""
    config = TextEncoderConfig(vocabulary=300, positions=32, width=24, layers=2, heads=3, inner=48)
    network = TextEncoder(config).eval().requires_grad_(requires_grad=False)
    inputs = (
        TensorSpec(name="token_ids", dtype="int64", shape=("batch", "tokens")),
        TensorSpec(name="token_mask", dtype="float32", shape=("batch", "tokens")),
    )
    outputs = (TensorSpec(name="context", dtype="float32", shape=("batch", "tokens", 24)),)
    return network, export_graph(network, inputs, outputs)


@pytest.fixture(params=["two_levels", "upscaler", "encoder"])
def network_and_graph(request: pytest.FixtureRequest) -> tuple[nn.Module, onnx.ModelProto]:
    """Each network with its plain export."""
    made = request.getfixturevalue(request.param)
    return made if request.param == "encoder" else (made.network, made.model)


def modules(network: nn.Module, *kinds: type[nn.Module]) -> int:
    """How many modules of some kinds a network has."""
    return sum(isinstance(module, kinds) for module in network.modules())


def numbers(model: onnx.ModelProto) -> dict[str, Array]:
    """Inputs of a graph; one row is padded."""
    if model.graph.input[0].name == "token_ids":
        mask = np.ones((2, 9), np.float32)
        mask[1, 4:] = 0
        return {"token_ids": np.arange(18).reshape(2, 9), "token_mask": mask}
    upscales = any(info.name == "low_res" for info in model.graph.input)
    from tests.support.tiny_training import TINY_SR, tiny_unet

    config = tiny_unet(attention="cross", upscales=True, levels=1) if upscales else TINY_BASE.unet
    assert TINY_SR.unet.upscales
    values = unet_inputs(config, rows=2, tokens=5, size=(32, 32))
    values["context_mask"][1, 2:] = 0
    return {name: value.numpy() for name, value in values.items()}


def answer(graph: bytes, inputs: dict[str, Array]) -> Array:
    """The one output of a graph."""
    engine = OrtEngine(graph, threads=1)
    (value,) = engine.run(inputs).values()
    engine.close()
    return value


def kinds(model: onnx.ModelProto) -> list[str]:
    """Operators in order."""
    return [node.op_type for node in model.graph.node]


def test_every_block_of_the_module_is_whole(
    network_and_graph: tuple[nn.Module, onnx.ModelProto],
) -> None:
    """As many norms and attentions in the form as in the torch module, and no softmax beside."""
    network, plain = network_and_graph
    form = gpu_form(plain, Precision.FP32)
    norms = modules(network, nn.GroupNorm, nn.LayerNorm)
    attentions = modules(network, Attention, EncoderLayer)
    assert norms > 3
    assert attentions >= 1
    assert form.counts == {"norms": norms, "attention": attentions}
    assert whole_blocks(form.model.SerializeToString()) == form.counts
    assert "Softmax" not in kinds(form.model)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [(Precision.FP32, FLOAT_TOLERANCE), (Precision.FP16, HALF_TOLERANCE)],
)
def test_the_numbers_are_those_of_the_plain_export(
    network_and_graph: tuple[nn.Module, onnx.ModelProto], precision: Precision, tolerance: float
) -> None:
    """Computed by ONNX Runtime; half really is narrower, and inputs and outputs stay float32."""
    _, plain = network_and_graph
    inputs = numbers(plain)
    expected = answer(plain.SerializeToString(), inputs)
    form = gpu_form(plain, precision)
    found = answer(cpu_checkable(form.model).SerializeToString(), inputs)
    assert found.dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=tolerance * scale, rtol=0)
    assert precision is Precision.FP32 or np.abs(found - expected).max() > 1e-6 * scale


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_borrowed_weights_change_nothing(
    network_and_graph: tuple[nn.Module, onnx.ModelProto], precision: Precision
) -> None:
    """Without its large weights, completed from the stored file: the same numbers exactly."""
    _, plain = network_and_graph
    stored = onnx.ModelProto()
    stored.CopyFrom(plain)
    store_exactly(stored)
    lender = stored.SerializeToString()
    form = gpu_form(plain, precision)
    file = form.without_shared(lender)
    large = [t for t in plain.graph.initializer if np.prod(t.dims) >= 256]
    assert len(missing(file)) == len(large)
    completed = onnx.load_from_string(attach_initializers(file, lender, "form"))
    onnx.checker.check_model(completed)
    inputs = numbers(plain)
    np.testing.assert_array_equal(
        answer(cpu_checkable(completed).SerializeToString(), inputs),
        answer(cpu_checkable(form.model).SerializeToString(), inputs),
    )


def product(weight: Array) -> onnx.ModelProto:
    """`y = x W`."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight, "W")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    proto.ir_version = 11
    return proto


def rebuilt(graph: bytes) -> Array:
    """The weight of a product as a runtime sees it: the answer to the unit matrix."""
    unit = np.eye(40, dtype=np.float32)
    return answer(cpu_checkable(onnx.load_from_string(graph)).SerializeToString(), {"x": unit})


@pytest.mark.parametrize("axis", [0, 1])
def test_levels_are_lent_exactly(axis: int) -> None:
    """A weight stored as int8 and steps, along either axis, is rebuilt bit for bit."""
    rng = np.random.default_rng(axis)
    levels = rng.integers(-127, 128, (40, 30)).astype(np.int8)
    levels[3, :], levels[:, 4] = 0, 0
    steps = rng.random((40, 1) if axis == 0 else (1, 30)).astype(np.float32)
    weight = (levels * steps).astype(np.float32)
    lender = product(np.eye(2, dtype=np.float32))
    lender.graph.initializer.append(numpy_helper.from_array(levels, "W_i8"))
    lender.graph.initializer.append(numpy_helper.from_array(steps, "W_scale"))
    lender.graph.node.append(helper.make_node("Cast", ["W_i8"], ["W_wide"], to=TensorProto.FLOAT))
    lender.graph.node.append(helper.make_node("Mul", ["W_wide", "W_scale"], ["stored"]))
    model = product(weight)
    assert strip_shared_weights(model, lender) < levels.nbytes
    assert missing(model.SerializeToString()) == {"W_i8"}
    completed = attach_initializers(model.SerializeToString(), lender.SerializeToString(), "form")
    np.testing.assert_array_equal(rebuilt(completed), weight)


def test_a_weight_on_a_grid_that_nobody_lends_stays_in_eight_bits() -> None:
    """A quarter of the bytes, the same numbers, nothing missing."""
    rng = np.random.default_rng(0)
    levels = rng.integers(-127, 128, (40, 30)).astype(np.int8)
    levels[0, :] = 127
    weight = (levels * np.full((1, 30), 0.0078125, np.float32)).astype(np.float32)
    model = product(weight)
    assert (
        strip_shared_weights(model, product(np.eye(2, dtype=np.float32))) == levels.nbytes + 40 * 4
    )
    graph = model.SerializeToString()
    assert missing(graph) == set()
    np.testing.assert_array_equal(rebuilt(graph), weight)


def test_a_weight_that_is_not_lent_exactly_stays() -> None:
    """A lender with other numbers of the same shape lends nothing."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((40, 30)).astype(np.float32)
    other = product(np.nextafter(weight, np.float32(np.inf)))
    other.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float16), "half"))
    model = product(weight)
    assert strip_shared_weights(model, other) == weight.nbytes
    assert missing(model.SerializeToString()) == set()


def test_a_softmax_of_another_shape_fails(two_levels: Exported) -> None:
    """A pattern that the pass does not know is an error and no silent loss."""
    model = onnx.ModelProto()
    model.CopyFrom(two_levels.model)
    scores = next(node for node in model.graph.node if node.op_type == "Softmax")
    biased = next(node for node in model.graph.node if scores.input[0] in node.output)
    biased.op_type = "Sub"
    with pytest.raises(ValueError, match="expected to come from MatMul, it comes from Sub"):
        restore_attention(model)


@pytest.mark.parametrize(("kind", "factor"), [("", 1.0), ("Mul", 0.3), ("Div", 3.0)])
def test_attention_that_a_network_writes_itself_is_whole_too(kind: str, factor: float) -> None:
    """Without a mask, its logits scaled behind the product, its keys with an axis for the heads."""
    plain = unmasked(kind, factor)
    form = gpu_form(plain, Precision.FP32)
    assert kinds(form.model).count("Attention") == 1
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {
        "x": rng.standard_normal((2, N, WIDTH)).astype(np.float32),
        "text": rng.standard_normal((2, KEYS, WIDTH)).astype(np.float32),
    }
    found, wanted = (
        answer(model.SerializeToString(), inputs) for model in (cpu_checkable(form.model), plain)
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_what_is_sensitive_stays_in_float(two_levels: Exported) -> None:
    """Norms and the conditioning read float32; convolutions read half."""
    model = gpu_form(two_levels.model, Precision.FP16).model
    narrow = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16
    }
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert all(name in narrow for name in node.input[1:])
        if node.op_type in ("GroupNormalization", "LayerNormalization", "Sin", "Cos", "Gemm"):
            assert not narrow.intersection(node.input)


def test_other_precisions_are_refused(two_levels: Exported) -> None:
    """int8 needs calibration, not a change of type."""
    for precision in (Precision.INT8, Precision.FP8):
        with pytest.raises(ValueError, match="choose fp16 or bf16"):
            gpu_form(two_levels.model, precision)
    with pytest.raises(ValueError, match="no layer that is worth halving"):
        halve(helper.make_model(helper.make_graph([], "g", [], [])), Precision.FP16)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_form_is_proven_beside_the_file_for_cpus(
    two_levels: Exported, tmp_path: Path, precision: Precision
) -> None:
    """Passes for CPUs, storage, proof, a bundle's folder: `gpu_graph` gives the graph back."""
    optimized = onnx.ModelProto()
    optimized.CopyFrom(two_levels.model)
    optimize(optimized)
    store_exactly(optimized)
    lender = optimized.SerializeToString()
    original = TorchEngine(two_levels.network, "prediction")
    source = GpuFormSource(
        name="base",
        traced=two_levels.model,
        stored=lender,
        original=original,
        cases=[numbers(two_levels.model)],
        outputs=["prediction"],
    )
    spec, data = verify_gpu_form(source, precision)
    assert spec.parity.max_abs_error < (1e-3 if precision is Precision.FP32 else 0.1)
    entry = GraphSpec(
        file="base.onnx",
        inputs=(),
        outputs=(),
        storage="float32",
        parity=spec.parity,
        gpu_forms=(spec,),
    )
    files = {"base.onnx": lender, spec.file: data}
    assert entry.all_files == tuple(files)
    graph = gpu_graph(bundle_of(tmp_path, files), entry, precision)
    assert missing(graph) == set()
    assert whole_blocks(graph)["norms"] == modules(two_levels.network, nn.GroupNorm, nn.LayerNorm)
    with pytest.raises(ValueError, match="parity can be measured here"):
        verify_gpu_form(source, Precision.BF16)


def bundle_of(folder: Path, files: dict[str, bytes]) -> Bundle:
    """The tiny bundle with other files in it."""
    bundle = write_tiny_bundle(folder / "bundle")
    listed = {entry.name: entry for entry in bundle.manifest.files}
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        listed[name] = FileEntry(name=name, sha256=digest, size_bytes=len(data))
    for name, data in files.items():
        (bundle.folder / name).write_bytes(data)
    return Bundle(bundle.folder, replace(bundle.manifest, files=tuple(listed.values())))


@NEEDS_TENSORRT
def test_a_build_that_fails_lets_its_weights_go(tmp_path: Path) -> None:
    """What lies beside the graph is read for the build, and given back though it raises."""
    from cascade.engines.trt_build import build_engine
    from cascade.engines.trt_options import BuildOptions

    path = tmp_path / "net.safetensors"
    entry, _ = write_weights(path, [new_tensor("w", np.zeros(1000, np.float32))])
    graph = ExternalGraph(b"no graph", ("w",), WeightBuffer(path, entry))
    with pytest.raises(EngineError, match="cannot read the graph"):
        build_engine(graph, BuildOptions(precision=Precision.FP32))
    # A chunk that nothing holds is read anew, and is not what was listed any more.
    path.write_bytes(bytes(entry.size_bytes))
    with pytest.raises(ManifestError, match="sha256 of chunk 0"):
        graph.lease()


def built(model: onnx.ModelProto, precision: Precision, capability: Sequence[int]) -> Any:
    """An engine, built here."""
    from cascade.engines.trt_build import build_engine
    from cascade.engines.trt_options import BuildOptions, Capability

    options = BuildOptions(
        precision=precision, capabilities=(Capability(*capability),), max_batch=2, size=64
    )
    return build_engine(model.SerializeToString(), options)


@NEEDS_TENSORRT
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_engines_are_built_with_every_block_whole(
    network_and_graph: tuple[nn.Module, onnx.ModelProto], precision: Precision
) -> None:
    """Layers of the parsed network, counted against the blocks of the torch module."""
    network, plain = network_and_graph
    form = gpu_form(plain, precision)
    made = built(form.model, precision, (8, 6))
    layers, formats = made.facts["layers"], made.facts["formats"]
    assert len(made.payload) > 100_000
    assert layers["NORMALIZATION"] == modules(network, nn.GroupNorm, nn.LayerNorm)
    assert layers["ATTENTION_INPUT"] == modules(network, Attention, EncoderLayer)
    assert "SOFTMAX" not in layers
    wanted = {Precision.FP32: "FLOAT", Precision.FP16: "HALF", Precision.BF16: "BF16"}[precision]
    narrow = form.counts.get("narrow")
    assert narrow is None or formats[wanted] == narrow


@NEEDS_TENSORRT
def test_the_plain_export_keeps_its_norms(two_levels: Exported) -> None:
    """From operator set 21 each GroupNorm arrives as one layer; attention does not."""
    layers = built(two_levels.model, Precision.FP32, (8, 9)).facts["layers"]
    assert layers["NORMALIZATION"] == modules(two_levels.network, nn.GroupNorm, nn.LayerNorm)
    assert layers["SOFTMAX"] == modules(two_levels.network, Attention)
    assert "ATTENTION_INPUT" not in layers


@NEEDS_TENSORRT
def test_eight_bit_weights_behind_quantized_inputs_build() -> None:
    """Symmetric quantise and dequantise pairs become an int8 engine; others are refused."""
    from cascade.errors import EngineError

    made = built(quantized_convolution(0), Precision.INT8, (8, 6))
    assert made.facts["layers"]["QUANTIZE"] == 1
    with pytest.raises(EngineError, match="Non-zero zero point is not supported"):
        built(quantized_convolution(3), Precision.INT8, (8, 6))


def quantized_convolution(zero: int) -> onnx.ModelProto:
    """A convolution as static quantisation writes it."""
    rng = np.random.default_rng(0)
    constants = {
        "s": np.array(0.05, np.float32),
        "z": np.array(zero, np.int8),
        "w": rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8),
        "ws": np.full(16, 0.01, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["k"], axis=0),
        helper.make_node("Conv", ["d", "k"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    proto.ir_version = 10
    return proto
