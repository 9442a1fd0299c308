"""A true bundle in miniature, made in milliseconds without torch: 8 -> 16 -> 32 pixels.

Every graph has the inputs and outputs of a real one and depends on all of them; only weights are
small. `slow_layers` makes steps of the super-resolution stages last, to test cancelling.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cascade.boundary import Context, Prompt
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import FORMAT_VERSION, Manifest, write_manifest
from cascade.diffusion.spec import (
    TEXT_PADDING,
    AugmentationSpec,
    DiffusionSpec,
    GuidanceSpec,
    ThresholdSpec,
)
from cascade.graph_spec import (
    NET,
    PICTURE_DB,
    FileEntry,
    GraphSpec,
    ParityRecord,
    QualityRecord,
    TensorSpec,
    VariantSpec,
)
from cascade.precision import Precision
from cascade.text.spec import TextEncoderSpec
from tests.support.manifests import square, starts

INT8 = Precision.INT8
WIDTH = 8
"""Width of the context embeddings."""
SIZES = (8, 16, 32)
WORDS = ("[UNK]", "a", "red", "green", "apple", "cat", "noto", "style", ",")
MAX_TOKENS = 16
PARITY = ParityRecord(max_abs_error=0.0, psnr_db=200.0, tolerance_abs=1e-4)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    constants: dict[str, np.ndarray],
) -> bytes:
    """An ONNX file's bytes."""
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    infos = [
        [helper.make_tensor_value_info(s.name, kinds[s.dtype], list(s.shape)) for s in specs]
        for specs in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", infos[0], infos[1], weights)
    proto: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    proto.ir_version = 9
    return proto.SerializeToString()


def text_encoder_graph() -> tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Each token's row of a table, times its mask."""
    rng = np.random.default_rng(7)
    inputs = (
        TensorSpec(name="token_ids", dtype="int64", shape=("batch", "tokens")),
        TensorSpec(name="token_mask", dtype="float32", shape=("batch", "tokens")),
    )
    outputs = (TensorSpec(name="context", dtype="float32", shape=("batch", "tokens", WIDTH)),)
    nodes = [
        helper.make_node("Gather", ["table", "token_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["token_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["context"]),
    ]
    constants = {
        "table": rng.standard_normal((len(WORDS), WIDTH)).astype(np.float32),
        "last": np.array([2], np.int64),
    }
    return model(nodes, inputs, outputs, constants), inputs, outputs


def stage_graph(
    position: int, *, upscales: bool, slow_layers: int
) -> tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """`tanh(conv(images) + text + time)`: an estimate of x0 that depends on every input."""
    rng = np.random.default_rng(position)
    image = ("batch", 3, "height", "width")
    inputs = [
        TensorSpec(name="x_t", dtype="float32", shape=image),
        TensorSpec(name="t", dtype="float32", shape=("batch",)),
        TensorSpec(name="context", dtype="float32", shape=("batch", "tokens", WIDTH)),
        TensorSpec(name="context_mask", dtype="float32", shape=("batch", "tokens")),
    ]
    if upscales:
        inputs.append(TensorSpec(name="low_res", dtype="float32", shape=image))
        inputs.append(TensorSpec(name="aug_level", dtype="float32", shape=("batch",)))
    outputs = (TensorSpec(name="prediction", dtype="float32", shape=image),)
    images = ["x_t", "low_res"] if upscales else ["x_t"]
    times = ["t", "aug_level"] if upscales else ["t"]
    channels = 3 * len(images)
    nodes = [
        helper.make_node("Concat", images, ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "kernel"], ["seen"], pads=[1, 1, 1, 1]),
        helper.make_node("Unsqueeze", ["context_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["context", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "colours"], ["tint"]),
        helper.make_node("Sum", times, ["time"]),
        helper.make_node("Reshape", ["time", "column"], ["late"]),
        helper.make_node("Sub", ["tint", "late"], ["shift"]),
        helper.make_node("Reshape", ["shift", "plane"], ["shift4"]),
        helper.make_node("Add", ["seen", "shift4"], ["h0"]),
    ]
    for layer in range(slow_layers):
        nodes.append(
            helper.make_node("Conv", [f"h{layer}", "wide"], [f"w{layer}"], pads=[3, 3, 3, 3])
        )
        nodes.append(helper.make_node("Tanh", [f"w{layer}"], [f"h{layer + 1}"]))
    nodes.append(helper.make_node("Tanh", [f"h{slow_layers}"], ["prediction"]))
    constants = {
        "kernel": (rng.standard_normal((3, channels, 3, 3)) * 0.3).astype(np.float32),
        "wide": (rng.standard_normal((3, 3, 7, 7)) * 0.1).astype(np.float32),
        "colours": rng.standard_normal((WIDTH, 3)).astype(np.float32),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
        "column": np.array([-1, 1], np.int64),
        "plane": np.array([-1, 3, 1, 1], np.int64),
    }
    return model(nodes, inputs, outputs, constants), tuple(inputs), outputs


def eight_bit(graph: bytes) -> bytes:
    """The same graph with its first convolution in 8 bits: QuantizeLinear, DequantizeLinear pairs.

    Input in steps of 1/16 around 128, weights in 7 bits: the products of one convolution then fit
    into the 16 bits in which processors without dot-product instructions add two of them.
    """
    proto = ModelProto.FromString(graph)
    (kernel,) = [w for w in proto.graph.initializer if w.name == "kernel"]
    values = numpy_helper.to_array(kernel)
    scale = np.float32(np.abs(values).max() / 63)
    constants = {
        "kernel_i8": np.rint(values / scale).astype(np.int8),
        "kernel_scale": scale,
        "kernel_zero": np.int8(0),
        "joined_scale": np.float32(1 / 16),
        "joined_zero": np.uint8(128),
    }
    proto.graph.initializer.remove(kernel)
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()
    )
    at = next(i for i, node in enumerate(proto.graph.node) if "kernel" in node.input)
    conv = proto.graph.node[at]
    conv.input[0], conv.input[1] = "joined_f", "kernel_f"
    joined, weight = ["joined_scale", "joined_zero"], ["kernel_scale", "kernel_zero"]
    pairs = [
        helper.make_node("QuantizeLinear", ["joined", *joined], ["joined_q"]),
        helper.make_node("DequantizeLinear", ["joined_q", *joined], ["joined_f"]),
        helper.make_node("DequantizeLinear", ["kernel_i8", *weight], ["kernel_f"]),
    ]
    for offset, node in enumerate(pairs):
        proto.graph.node.insert(at + offset, node)
    return proto.SerializeToString()


def without(graph: bytes, name: str) -> bytes:
    """The graph with one weight left out, for a file that another one completes."""
    proto = ModelProto.FromString(graph)
    kept = [w for w in proto.graph.initializer if w.name != name]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto.SerializeToString()


def tokenizer_json() -> bytes:
    """A word-level tokenizer over `WORDS`."""
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(WORDS)},
            "unk_token": "[UNK]",
        },
    }
    return json.dumps(definition).encode()


def write_tiny_bundle(
    folder: Path,
    *,
    slow_layers: int = 0,
    steps: int = 3,
    int8: bool = False,
    picture_db: float = 40.0,
    sizes: Sequence[int] = SIZES,
) -> Bundle:
    """Write and open a bundle with components `text_encoder`, `base`, `sr16`, `sr32`.

    Args:
        folder: an empty or missing folder.
        slow_layers: extra wide convolutions per step of the super-resolution stages.
        steps: default steps of every stage.
        int8: with an 8-bit file beside the float32 one of every stage.
        sizes: of the pictures of the stages.
        picture_db: what the manifest says of the worst picture of those files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {"tokenizer.json": tokenizer_json()}
    files["text_encoder.onnx"], inputs, outputs = text_encoder_graph()

    def graph(file: str, ins: tuple[TensorSpec, ...], outs: tuple[TensorSpec, ...]) -> GraphSpec:
        variants = ()
        if int8 and file != "text_encoder.onnx":
            name = file.replace(".onnx", ".int8.onnx")
            # As in a true bundle, a weight that the float32 file holds is not stored again.
            files[name] = without(eight_bit(files[file]), "colours")
            variants = (
                VariantSpec(
                    precision=INT8,
                    file=name,
                    parity=PARITY,
                    quality=QualityRecord(metric=PICTURE_DB, value=picture_db),
                ),
            )
        return GraphSpec(
            file=file,
            inputs=ins,
            outputs=outs,
            storage="float32",
            parity=PARITY,
            padded_by=TEXT_PADDING if file != "text_encoder.onnx" else {},
            variants=variants,
        )

    encoder = TextEncoderSpec(
        name="text_encoder",
        family="text_encoder",
        graphs={NET: graph("text_encoder.onnx", inputs, outputs)},
        starts_from=(Prompt(),),
        makes=Context(width=WIDTH),
        tokenizer_file="tokenizer.json",
        max_tokens=MAX_TOKENS,
        provenance={"made_of": "random numbers of a fixed seed"},
    )
    stages = []
    before: int | None = None
    for position, size in enumerate(sizes, start=1):
        name = "base" if before is None else f"sr{size}" if size > before else f"same{size}"
        file = f"{name}.onnx"
        layers = 0 if before is None else slow_layers
        files[file], inputs, outputs = stage_graph(
            position, upscales=before is not None, slow_layers=layers
        )
        stages.append(
            DiffusionSpec(
                name=name,
                family="diffusion",
                graphs={NET: graph(file, inputs, outputs)},
                starts_from=starts(before, WIDTH),
                makes=square(size),
                schedule="cosine",
                prediction="x0",
                sampler="ddpm" if before is None else "ddim",
                steps=steps,
                gamma=0.3,
                guidance=GuidanceSpec(kind="constant", weight=2.0 if before is None else 1.0),
                null_context="mask",
                threshold=ThresholdSpec(kind="dynamic", percentile=0.995),
                augmentation=None
                if before is None
                else AugmentationSpec(lowest=0.0, highest=0.5, default=0.1),
            )
        )
        before = size
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tiny",
        licence="Apache-2.0",
        provenance={"made_of": "made by the tests"},
        components=(encoder, *stages),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in files.items()
        ),
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(write_manifest(manifest))
    return open_bundle(folder)
