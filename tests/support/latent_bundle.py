"""A cascade of latents in miniature, made without torch: every way that a latent can go.

A latent of words (`low`), one of a smaller latent (`up`, in half precision), a picture of it in
tiles (`decode`), a latent of that picture (`encode`), one of a latent of its own size (`polish`),
its picture (`show`), a latent of a picture of its own size (`sharp`), and the last picture
(`final`). Sides differ everywhere; weights are random.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from cascade.boundary import BoundaryValue, Context, Image, Prompt, Tensor
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import FORMAT_VERSION, Manifest, write_manifest
from cascade.diffusion.spec import DiffusionSpec, GuidanceSpec, ThresholdSpec
from cascade.graph_spec import NET, FileEntry, GraphSpec, TensorSpec
from cascade.latents.spec import AutoencoderSpec
from cascade.text.spec import TextEncoderSpec
from tests.support.tiny_bundle import (
    MAX_TOKENS,
    PARITY,
    WIDTH,
    model,
    text_encoder_graph,
    tokenizer_json,
)

WORDS = Context(width=WIDTH)
LOW = Tensor(shape=(4, 8, 6), dtype="float32")
UP = Tensor(shape=(4, 16, 12), dtype="float16")
PICTURE = Image(width=24, height=32)
CODE = Tensor(shape=(3, 16, 12), dtype="float32")
LARGE = Image(width=48, height=64)
SHARP = Tensor(shape=(4, 64, 48), dtype="float16")
NAMES = ("text_encoder", "low", "up", "decode", "encode", "polish", "show", "sharp", "final")
Files = dict[str, bytes]


def floats(name: str, *shape: int | str) -> TensorSpec:
    """An input or output of float32."""
    return TensorSpec(name=name, dtype="float32", shape=shape)


def graph_spec(
    name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> GraphSpec:
    """The entry of a file."""
    return GraphSpec(
        file=f"{name}.onnx", inputs=inputs, outputs=outputs, storage="float32", parity=PARITY
    )


def denoiser(files: Files, name: str, makes: Tensor, low: Tensor | Image | None) -> GraphSpec:
    """`tanh(conv(x_t, low_res) + text + time)`, written to `files`: it reads every input."""
    rng = np.random.default_rng(len(files))
    image = ("batch", *makes.shape)
    inputs = [
        floats("x_t", *image),
        floats("t", "batch"),
        floats("context", "batch", "tokens", WIDTH),
        floats("context_mask", "batch", "tokens"),
    ]
    seen = ["x_t"]
    channels = makes.channels
    if low is not None:
        inputs.append(floats("low_res", "batch", low.channels, makes.height, makes.width))
        seen.append("low_res")
        channels += low.channels
    outputs = (floats("prediction", *image),)
    nodes = [
        helper.make_node("Concat", seen, ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Unsqueeze", ["context_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["context", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "colours"], ["tint"]),
        helper.make_node("Reshape", ["t", "column"], ["late"]),
        helper.make_node("Sub", ["tint", "late"], ["shift"]),
        helper.make_node("Reshape", ["shift", "plane"], ["shift4"]),
        helper.make_node("Add", ["map", "shift4"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["prediction"]),
    ]
    shape = (makes.channels, channels, 3, 3)
    constants = {
        "kernel": (rng.standard_normal(shape) * 0.3).astype(np.float32),
        "colours": rng.standard_normal((WIDTH, makes.channels)).astype(np.float32),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
        "column": np.array([-1, 1], np.int64),
        "plane": np.array([-1, makes.channels, 1, 1], np.int64),
    }
    files[f"{name}.onnx"] = model(nodes, inputs, outputs, constants)
    return graph_spec(name, tuple(inputs), outputs)


def diffusion(
    files: Files, name: str, makes: Tensor, low: Tensor | Image | None, **more: Any
) -> DiffusionSpec:
    """A stage that makes a latent."""
    starts: tuple[BoundaryValue, ...] = (WORDS,) if low is None else (WORDS, low)
    return DiffusionSpec(
        name=name,
        family="diffusion",
        graphs={NET: denoiser(files, name, makes, low)},
        starts_from=starts,
        makes=makes,
        schedule="cosine",
        prediction="x0",
        sampler="ddpm",
        steps=2,
        gamma=0.3,
        guidance=GuidanceSpec(kind="constant", weight=2.0),
        null_context="mask",
        threshold=ThresholdSpec(kind="none"),
        augmentation=None,
        **more,
    )


def decoder_graph(files: Files, name: str, taken: Tensor, made: Image, tile: int) -> GraphSpec:
    """`tanh(depth to space(conv(latent)))`; of tiles of `tile` numbers where that is not 0."""
    rng = np.random.default_rng(len(files))
    factor = made.width // taken.width
    height, width = (tile, tile) if tile else taken.shape[1:]
    inputs = (floats("latent", "batch", taken.channels, height, width),)
    outputs = (floats("picture", "batch", 3, factor * height, factor * width),)
    nodes = [
        helper.make_node("Conv", ["latent", "kernel"], ["deep"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["deep"], ["flat"], blocksize=factor),
        helper.make_node("Tanh", ["flat"], ["picture"]),
    ]
    shape = (3 * factor**2, taken.channels, 3, 3)
    kernel = (rng.standard_normal(shape) * 0.4).astype(np.float32)
    files[f"{name}.onnx"] = model(nodes, inputs, outputs, {"kernel": kernel})
    return graph_spec(name, inputs, outputs)


def encoder_graph(files: Files, name: str, taken: Image, made: Tensor, tile: int) -> GraphSpec:
    """`conv(space to depth(picture))`; of tiles of `tile` numbers where that is not 0."""
    rng = np.random.default_rng(len(files))
    factor = taken.width // made.width
    height, width = (tile, tile) if tile else made.shape[1:]
    inputs = (floats("picture", "batch", 3, factor * height, factor * width),)
    outputs = (floats("latent", "batch", made.channels, height, width),)
    nodes = [
        helper.make_node("SpaceToDepth", ["picture"], ["deep"], blocksize=factor),
        helper.make_node("Conv", ["deep", "kernel"], ["latent"], pads=[1, 1, 1, 1]),
    ]
    shape = (made.channels, 3 * factor**2, 3, 3)
    kernel = (rng.standard_normal(shape) * 0.3).astype(np.float32)
    files[f"{name}.onnx"] = model(nodes, inputs, outputs, {"kernel": kernel})
    return graph_spec(name, inputs, outputs)


def decoder(files: Files, name: str, taken: Tensor, made: Image, tile: int = 0) -> AutoencoderSpec:
    """A latent to a picture."""
    return AutoencoderSpec(
        name=name,
        family="decoder",
        graphs={NET: decoder_graph(files, name, taken, made, tile)},
        starts_from=(WORDS, taken),
        makes=made,
        scaling=0.5,
        shift=0.1,
    )


def encoder(files: Files, name: str, taken: Image, made: Tensor, tile: int = 0) -> AutoencoderSpec:
    """A picture to a latent."""
    return AutoencoderSpec(
        name=name,
        family="encoder",
        graphs={NET: encoder_graph(files, name, taken, made, tile)},
        starts_from=(WORDS, taken),
        makes=made,
        scaling=0.5,
        shift=0.1,
    )


def text_encoder(files: Files) -> TextEncoderSpec:
    """The tiny bundle's."""
    files["tokenizer.json"] = tokenizer_json()
    files["text_encoder.onnx"], inputs, outputs = text_encoder_graph()
    return TextEncoderSpec(
        name="text_encoder",
        family="text_encoder",
        graphs={NET: graph_spec("text_encoder", inputs, outputs)},
        starts_from=(Prompt(),),
        makes=WORDS,
        tokenizer_file="tokenizer.json",
        max_tokens=MAX_TOKENS,
    )


def write_latent_bundle(folder: Path) -> Bundle:
    """A bundle with the components `NAMES`."""
    folder.mkdir(parents=True, exist_ok=True)
    files: Files = {}
    components = (
        text_encoder(files),
        diffusion(files, "low", LOW, None),
        diffusion(files, "up", UP, LOW, enlarge="nearest"),
        decoder(files, "decode", UP, PICTURE, tile=8),
        encoder(files, "encode", PICTURE, CODE, tile=8),
        diffusion(files, "polish", CODE, CODE, enlarge="none"),
        decoder(files, "show", CODE, LARGE),
        diffusion(files, "sharp", SHARP, LARGE, enlarge="none"),
        decoder(files, "final", SHARP, Image(width=96, height=128)),
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="latents",
        licence="Apache-2.0",
        components=components,
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in files.items()
        ),
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(write_manifest(manifest))
    return open_bundle(folder)
