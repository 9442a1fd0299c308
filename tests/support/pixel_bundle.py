"""A cascade of pixels by groups in miniature, made without torch: text -> 8 -> 16 -> 32 pixels.

A first stage, one that keeps its parent's corners, and one that keeps its parent's means. Every
number of the graphs is whole or a multiple of 1/512 and small enough for float32 to hold every sum:
all engines must give the same bits. Weights are random, so are the pictures.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from cascade.boundary import BoundaryValue, Context, Image, Prompt
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import FORMAT_VERSION, Manifest, write_manifest
from cascade.graph_spec import NET, FileEntry, GraphSpec, ParityRecord, TensorSpec
from cascade.pixels.order import checkerboard, group_targets, largest, squares
from cascade.pixels.scheme import PassScheme
from cascade.pixels.spec import HEADS, PASS, TEXT_PADDING, PixelAugmentation, PixelSpec
from cascade.text.spec import TextEncoderSpec
from tests.support.hashed_heads import AROUND, PARENTS
from tests.support.tiny_bundle import MAX_TOKENS, WIDTH, model, text_encoder_graph, tokenizer_json

GRID = 512
FEATURES = 12
EXACT = ParityRecord(max_abs_error=0.0, psnr_db=200.0, tolerance_abs=0.0)
FIRST = PassScheme(parent="none", order=checkerboard(4, 4), guess="zero", canvas_copies=AROUND)
CORNERS = PassScheme(
    parent="subsample",
    order=squares("subsample"),
    guess="parent",
    parent_copies=PARENTS,
    canvas_copies=AROUND,
)
MEANS = PassScheme(
    parent="box",
    order=squares("box"),
    guess="cell",
    parent_copies=PARENTS,
    canvas_copies=AROUND,
    keep_mean=True,
)
STAGES = {"px8": (FIRST, 8), "px16": (CORNERS, 16), "px32": (MEANS, 32)}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one stage's graphs."""

    scheme: PassScheme
    size: int
    words: bool = True
    slow_layers: int = 0

    @property
    def small(self) -> int | None:
        """Height and width of the parent."""
        return None if self.scheme.parent == "none" else self.size // 2

    @property
    def count(self) -> int:
        """Pixels of the largest group."""
        return largest(group_targets(self.scheme.order, self.size, self.size))


def on_grid(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> np.ndarray:
    """Random multiples of 1 / `GRID` of about a size, float32."""
    return (np.rint(rng.standard_normal(shape) * size * GRID) / GRID).astype(np.float32)


def whole(given: str, made: str, least: str) -> list[NodeProto]:
    """Rounded, half to even, and held between `least` and 255."""
    return [
        helper.make_node("Round", [given], [f"{made}_whole"]),
        helper.make_node("Clip", [f"{made}_whole", least, "most"], [made]),
    ]


def f32(name: str, *shape: int | str) -> TensorSpec:
    """A float32 tensor with a free batch axis."""
    return TensorSpec(name=name, dtype="float32", shape=("batch", *shape))


def i64(name: str, *shape: int) -> TensorSpec:
    """An int64 tensor with a free batch axis."""
    return TensorSpec(name=name, dtype="int64", shape=("batch", *shape))


def body_graph(shape: Shape, seed: int) -> tuple[bytes, GraphSpec]:
    """Two convolutions over what is known, the pass, the level and the largest of each token."""
    rng = np.random.default_rng(seed)
    size, small = shape.size, shape.small
    inputs = [f32("canvas", 3, size, size), f32("known", 1, size, size)]
    nodes = [
        helper.make_node("Sub", ["canvas", "centre"], ["middled"]),
        helper.make_node("Mul", ["middled", "known"], ["shown"]),
        helper.make_node("Mul", ["known", "centre"], ["flags"]),
    ]
    seen = ["shown", "flags"]
    if small is not None:
        inputs += [f32("low_res", 3, small, small), f32("aug_level")]
        nodes += [
            helper.make_node("Sub", ["low_res", "centre"], ["low"]),
            helper.make_node("Reshape", ["low", "apart"], ["low6"]),
            helper.make_node("Tile", ["low6", "doubled"], ["tiled"]),
            helper.make_node("Reshape", ["tiled", "picture"], ["enlarged"]),
            helper.make_node("Reshape", ["aug_level", "column"], ["level"]),
            helper.make_node("Mul", ["level", "levels"], ["warned"]),
            *whole("warned", "caution", "least"),
        ]
        seen.append("enlarged")
    added = ["passed", *(["caution"] if small is not None else [])]
    if shape.words:
        inputs += [f32("context", "tokens", WIDTH), f32("context_mask", "tokens")]
        nodes += [
            helper.make_node("Mul", ["context", "sixteen"], ["read"]),
            *whole("read", "tokens_read", "least"),
            helper.make_node("MatMul", ["tokens_read", "words"], ["spoken"]),
            *whole("spoken", "heard", "zero"),
            helper.make_node("Unsqueeze", ["context_mask", "last"], ["mask"]),
            helper.make_node("Mul", ["heard", "mask"], ["kept"]),
            helper.make_node("ReduceMax", ["kept", "middle"], ["text"], keepdims=0),
        ]
        added.append("text")
    inputs += [i64("pass_index"), i64("targets", shape.count)]
    channels = 4 + 3 * (small is not None)
    nodes += [
        helper.make_node("Concat", seen, ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "first"], ["seen"], pads=[1, 1, 1, 1]),
        helper.make_node("Gather", ["passes", "pass_index"], ["passed"]),
        helper.make_node("Sum", added, ["said"]),
        helper.make_node("Reshape", ["said", "plane"], ["said4"]),
        helper.make_node("Add", ["seen", "said4"], ["sum0"]),
        *whole("sum0", "h0", "zero"),
    ]
    for layer in range(shape.slow_layers):
        nodes.append(
            helper.make_node("Conv", [f"h{layer}", "wide"], [f"w{layer}"], pads=[3, 3, 3, 3])
        )
        nodes += whole(f"w{layer}", f"h{layer + 1}", "zero")
    nodes += [
        helper.make_node("Conv", [f"h{shape.slow_layers}", "second"], ["deep"], pads=[1, 1, 1, 1]),
        *whole("deep", "pixels", "least"),
        helper.make_node("Reshape", ["pixels", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["positions"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["targets", "last"], ["places"]),
        helper.make_node("GatherND", ["positions", "places"], ["features"], batch_dims=1),
    ]
    constants = {
        "centre": np.float32(128),
        "sixteen": np.float32(16),
        "least": np.float32(-255),
        "zero": np.float32(0),
        "most": np.float32(255),
        "first": on_grid(rng, (FEATURES, channels, 3, 3), 0.25),
        "second": on_grid(rng, (FEATURES, FEATURES, 3, 3), 0.15),
        "wide": on_grid(rng, (FEATURES, FEATURES, 7, 7), 0.04),
        "passes": np.rint(rng.standard_normal((shape.scheme.passes, FEATURES)) * 40).astype("f4"),
        "levels": np.rint(rng.standard_normal((1, FEATURES)) * 90).astype("f4"),
        "words": on_grid(rng, (WIDTH, FEATURES), 1.0),
        "column": np.array([-1, 1], np.int64),
        "apart": np.array([-1, 3, small or 1, 1, small or 1, 1], np.int64),
        "doubled": np.array([1, 1, 1, 2, 1, 2], np.int64),
        "picture": np.array([-1, 3, size, size], np.int64),
        "plane": np.array([-1, FEATURES, 1, 1], np.int64),
        "flat": np.array([0, FEATURES, size * size], np.int64),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    constants = {name: np.asarray(value) for name, value in constants.items()}
    return made(PASS, nodes, inputs, [f32("features", shape.count, FEATURES)], constants)


def heads_graph(shape: Shape, seed: int) -> tuple[bytes, GraphSpec]:
    """A hidden layer of the features, of what is decided and of what matches; three answers."""
    rng = np.random.default_rng(seed)
    count, candidates = shape.count, shape.scheme.candidates
    inputs = [
        f32("features", count, FEATURES),
        i64("earlier", count, 2),
        f32("match", count, candidates),
    ]
    outputs = [f32("high", count, 16), f32("low", count, 256), f32("copy", count, candidates + 1)]
    nodes = [
        helper.make_node("MatMul", ["features", "inward"], ["own"]),
        helper.make_node("Split", ["earlier"], ["red", "green"], axis=2, num_outputs=2),
        helper.make_node("Squeeze", ["red", "last"], ["red2"]),
        helper.make_node("Squeeze", ["green", "last"], ["green2"]),
        helper.make_node("Gather", ["reds", "red2"], ["said_red"]),
        helper.make_node("Gather", ["greens", "green2"], ["said_green"]),
        helper.make_node("MatMul", ["match", "matches"], ["said_match"]),
        helper.make_node("Sum", ["own", "said_red", "said_green", "said_match"], ["all"]),
        *whole("all", "hidden", "zero"),
    ]
    for answer in outputs:
        nodes += [
            helper.make_node("MatMul", ["hidden", f"to_{answer.name}"], [f"{answer.name}_sum"]),
            *whole(f"{answer.name}_sum", answer.name, "least"),
        ]
    constants = {
        "least": np.asarray(np.float32(-255)),
        "zero": np.asarray(np.float32(0)),
        "most": np.asarray(np.float32(255)),
        "last": np.array([2], np.int64),
        "inward": on_grid(rng, (FEATURES, FEATURES), 0.4),
        "reds": np.rint(rng.standard_normal((257, FEATURES)) * 40).astype("f4"),
        "greens": np.rint(rng.standard_normal((257, FEATURES)) * 40).astype("f4"),
        "matches": np.rint(rng.standard_normal((candidates, FEATURES)) * 20).astype("f4"),
        **{f"to_{a.name}": on_grid(rng, (FEATURES, int(a.shape[-1])), 0.25) for a in outputs},
    }
    return made(HEADS, nodes, inputs, outputs, constants)


def made(
    role: str,
    nodes: list[NodeProto],
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    constants: dict[str, np.ndarray],
) -> tuple[bytes, GraphSpec]:
    """A graph's bytes and its entry, whose file is still to be named."""
    named = {tensor.name for tensor in inputs}
    data = model(nodes, inputs, outputs, used(nodes, constants))
    return data, GraphSpec(
        file=role,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        storage="float32",
        parity=EXACT,
        padded_by=TEXT_PADDING if "context" in named else {},
    )


def used(nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The constants that some node reads."""
    read = {name for node in nodes for name in node.input}
    return {name: value for name, value in constants.items() if name in read}


def pixel_stage(
    name: str, shape: Shape, seed: int, **fields: Any
) -> tuple[PixelSpec, dict[str, bytes]]:
    """One stage's entry and the files of its graphs."""
    files, graphs = {}, {}
    for role, build in ((PASS, body_graph), (HEADS, heads_graph)):
        data, graph = build(shape, seed)
        file = f"{name}.{role}.onnx"
        files[file] = data
        graphs[role] = GraphSpec(**{**{f: getattr(graph, f) for f in FIELDS}, "file": file})
    starts: list[BoundaryValue] = [Context(width=WIDTH)] if shape.words else []
    if shape.small is not None:
        starts.append(Image(width=shape.small, height=shape.small))
        fields = {"augmentation": PixelAugmentation(lowest=0, highest=0.5, default=0.1), **fields}
    spec = PixelSpec(
        name=name,
        family="pixels",
        graphs=graphs,
        starts_from=tuple(starts),
        makes=Image(width=shape.size, height=shape.size),
        scheme=shape.scheme,
        arithmetic="exact",
        **fields,
    )
    return spec, files


FIELDS = ("inputs", "outputs", "storage", "parity", "padded_by")


def write_pixel_bundle(folder: Path, *, slow_layers: int = 0, guidance_16: int = 24) -> Bundle:
    """Write and open a bundle with the components `text_encoder`, `px8`, `px16`, `px32`.

    Args:
        folder: an empty or missing folder.
        slow_layers: extra convolutions of every pass, so that one can be interrupted.
        guidance_16: of the first stage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"tokenizer.json": tokenizer_json()}
    files["text_encoder.onnx"], inputs, outputs = text_encoder_graph()
    encoder = TextEncoderSpec(
        name="text_encoder",
        family="text_encoder",
        graphs={
            NET: GraphSpec(
                file="text_encoder.onnx",
                inputs=inputs,
                outputs=outputs,
                storage="float32",
                parity=EXACT,
            )
        },
        starts_from=(Prompt(),),
        makes=Context(width=WIDTH),
        tokenizer_file="tokenizer.json",
        max_tokens=MAX_TOKENS,
    )
    stages = []
    for position, (name, (scheme, size)) in enumerate(STAGES.items(), start=1):
        fields = {"guidance_16": guidance_16} if position == 1 else {"temperature_16": 12}
        shape = Shape(scheme, size, slow_layers=slow_layers)
        spec, more = pixel_stage(name, shape, position, **fields)
        stages.append(spec)
        files |= more
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tiny-pixels",
        licence="Apache-2.0",
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
