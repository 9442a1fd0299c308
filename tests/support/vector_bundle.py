"""The bundle in miniature with vectors: pooled text, sizes and an embedding.

`base` reads `pooled_text` (of the words) and `sizes` (with a default), `sr16` reads `sizes` and
`portrait`, which a request has to bring.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest, write_manifest
from cascade.diffusion.spec import DiffusionSpec
from cascade.graph_spec import NET, FileEntry, GraphSpec, TensorSpec
from cascade.text.spec import TextEncoderSpec
from cascade.vectors import VectorSpec
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle

POOLED = VectorSpec(name="pooled_text", width=WIDTH, source="words", unconditional="zeros")
SIZES = VectorSpec(name="sizes", width=2, default=(0.25, 0.5))
PORTRAIT = VectorSpec(name="portrait", width=4, unconditional="zeros")
READ = {"base": (POOLED, SIZES), "sr16": (SIZES, PORTRAIT)}


def pooling(graph: bytes) -> bytes:
    """The encoder's graph with the sum of all rows as a second output."""
    proto = ModelProto.FromString(graph)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "rows_axis"))
    proto.graph.node.append(
        helper.make_node("ReduceSum", ["context", "rows_axis"], ["pooled_text"], keepdims=0)
    )
    proto.graph.output.append(
        helper.make_tensor_value_info("pooled_text", TensorProto.FLOAT, ["batch", WIDTH])
    )
    return proto.SerializeToString()


def reading(graph: bytes, vectors: tuple[VectorSpec, ...]) -> bytes:
    """A stage's graph whose colours depend on vectors too."""
    proto, rng = ModelProto.FromString(graph), np.random.default_rng(9)
    last = next(node for node in proto.graph.node if node.output[0] == "shift")
    last.output[0] = "shift_0"
    at = list(proto.graph.node).index(last) + 1
    for number, vector in enumerate(vectors):
        weight = rng.standard_normal((vector.width, 3)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, f"of_{vector.name}"))
        proto.graph.input.append(
            helper.make_tensor_value_info(vector.name, TensorProto.FLOAT, ["batch", vector.width])
        )
        tint, total = f"tint_{vector.name}", f"shift_{number + 1}"
        total = "shift" if number == len(vectors) - 1 else total
        nodes = (
            helper.make_node("MatMul", [vector.name, f"of_{vector.name}"], [tint]),
            helper.make_node("Add", [f"shift_{number}", tint], [total]),
        )
        for node in nodes:
            proto.graph.node.insert(at, node)
            at += 1
    return proto.SerializeToString()


def with_tensors(graph: GraphSpec, vectors: tuple[VectorSpec, ...], side: str) -> GraphSpec:
    """A graph's record with vectors among its inputs or outputs."""
    more = tuple(
        TensorSpec(name=v.name, dtype="float32", shape=("batch", v.width)) for v in vectors
    )
    return replace(graph, **{side: (*getattr(graph, side), *more)})


def vector_manifest(manifest: Manifest) -> Manifest:
    """The manifest in miniature, of the components that make and read vectors."""
    components: list[TextEncoderSpec | DiffusionSpec] = []
    for spec in manifest.components:
        if isinstance(spec, TextEncoderSpec):
            graph = with_tensors(spec.graph, (POOLED,), "outputs")
            components.append(replace(spec, graphs={NET: graph}, vectors={"pooled_text": WIDTH}))
        elif isinstance(spec, DiffusionSpec):
            read = READ.get(spec.name, ())
            graph = with_tensors(spec.graph, read, "inputs")
            components.append(replace(spec, graphs={NET: graph}, vectors=read))
    return replace(manifest, name="vectors", components=tuple(components))


def write_vector_bundle(folder: Path) -> Bundle:
    """Write and open the bundle."""
    manifest = vector_manifest(write_tiny_bundle(folder).manifest)
    for name, vectors in (("text_encoder", None), *READ.items()):
        path = folder / f"{name}.onnx"
        graph = path.read_bytes()
        path.write_bytes(pooling(graph) if vectors is None else reading(graph, vectors))
    entries = []
    for entry in manifest.files:
        data = (folder / entry.name).read_bytes()
        entries.append(
            FileEntry(
                name=entry.name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
            )
        )
    (folder / "manifest.json").write_text(write_manifest(replace(manifest, files=tuple(entries))))
    return open_bundle(folder)
