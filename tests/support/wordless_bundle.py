"""A cascade without words: a stage from noise alone, 6 wide and 4 high, and one enlargement."""

import hashlib
from pathlib import Path

import numpy as np
from onnx import helper

from cascade.boundary import BoundaryValue, Image
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import FORMAT_VERSION, Manifest, write_manifest
from cascade.diffusion.spec import AugmentationSpec, DiffusionSpec, GuidanceSpec, ThresholdSpec
from cascade.graph_spec import NET, FileEntry, GraphSpec, TensorSpec
from tests.support.tiny_bundle import PARITY, model

LOW, HIGH = Image(width=6, height=4), Image(width=12, height=8)


def wordless_graph(name: str, *, upscales: bool) -> tuple[bytes, GraphSpec]:
    """`tanh(x_t - t)`, and of an enlargement also of the smaller picture and its noise level."""
    image = ("batch", 3, "height", "width")
    shapes: dict[str, tuple[int | str, ...]] = {"x_t": image, "t": ("batch",)}
    nodes = [
        helper.make_node("Reshape", ["t", "column"], ["late"]),
        helper.make_node("Sub", ["x_t", "late"], ["early"]),
    ]
    seen = "early"
    if upscales:
        shapes |= {"low_res": image, "aug_level": ("batch",)}
        nodes += [
            helper.make_node("Reshape", ["aug_level", "column"], ["noisy"]),
            helper.make_node("Sub", ["low_res", "noisy"], ["shown"]),
            helper.make_node("Add", ["early", "shown"], ["both"]),
        ]
        seen = "both"
    nodes.append(helper.make_node("Tanh", [seen], ["prediction"]))
    inputs = tuple(TensorSpec(name=n, dtype="float32", shape=s) for n, s in shapes.items())
    outputs = (TensorSpec(name="prediction", dtype="float32", shape=image),)
    data = model(nodes, inputs, outputs, {"column": np.array([-1, 1, 1, 1], np.int64)})
    file = f"{name}.onnx"
    return data, GraphSpec(
        file=file, inputs=inputs, outputs=outputs, storage="float32", parity=PARITY
    )


def wordless_spec(
    name: str, graph: GraphSpec, starts_from: tuple[BoundaryValue, ...], makes: Image
) -> DiffusionSpec:
    """One stage's entry."""
    return DiffusionSpec(
        name=name,
        family="diffusion",
        graphs={NET: graph},
        starts_from=starts_from,
        makes=makes,
        schedule="cosine",
        prediction="x0",
        sampler="ddim",
        steps=3,
        gamma=0.0,
        guidance=GuidanceSpec(kind="constant", weight=1.0),
        null_context="mask",
        threshold=ThresholdSpec(kind="static"),
        augmentation=AugmentationSpec(lowest=0.0, highest=0.5, default=0.1)
        if starts_from
        else None,
    )


def write_wordless_bundle(folder: Path) -> Bundle:
    """A bundle with the components `base` and `sr`."""
    folder.mkdir(parents=True)
    base, base_graph = wordless_graph("base", upscales=False)
    sr, sr_graph = wordless_graph("sr", upscales=True)
    files = {"base.onnx": base, "sr.onnx": sr}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="wordless",
        licence="Apache-2.0",
        components=(
            wordless_spec("base", base_graph, (), LOW),
            wordless_spec("sr", sr_graph, (LOW,), HIGH),
        ),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in files.items()
        ),
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(write_manifest(manifest))
    return open_bundle(folder)
