"""The tiny bundle with a label encoder in the place of its text encoder: class-conditional."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import helper

from cascade.boundary import Context, Label
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.graph_spec import NET, FileEntry, GraphSpec, TensorSpec
from cascade.labels.spec import LabelEncoderSpec
from tests.support.manifests import stages_of
from tests.support.tiny_bundle import PARITY, WIDTH, model, write_tiny_bundle

CLASSES = ("apple", "cat", "tree")
TABLE = np.random.default_rng(3).standard_normal((len(CLASSES), WIDTH)).astype(np.float32)
"""A row of embeddings for each class."""


def label_graph() -> tuple[bytes, GraphSpec]:
    """The row of a class, as a context of one token."""
    inputs = (TensorSpec(name="label", dtype="int64", shape=("batch",)),)
    outputs = (TensorSpec(name="context", dtype="float32", shape=("batch", 1, WIDTH)),)
    nodes = [
        helper.make_node("Gather", ["table", "label"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "one"], ["context"]),
    ]
    constants = {"table": TABLE, "one": np.array([1], np.int64)}
    graph = GraphSpec(
        file="label.onnx", inputs=inputs, outputs=outputs, storage="float32", parity=PARITY
    )
    return model(nodes, inputs, outputs, constants), graph


def label_spec(**changes: object) -> LabelEncoderSpec:
    """The encoder's entry."""
    values: dict[str, object] = {
        "name": "label",
        "family": "label",
        "graphs": {NET: label_graph()[1]},
        "starts_from": (Label(classes=len(CLASSES)),),
        "makes": Context(width=WIDTH),
        "class_names": CLASSES,
    }
    return LabelEncoderSpec(**{**values, **changes})  # type: ignore[arg-type]


def write_label_bundle(folder: Path) -> Bundle:
    """A bundle with the components `label`, `base`, `sr16`, `sr32`."""
    manifest = write_tiny_bundle(folder).manifest
    data, _ = label_graph()
    gone = {"text_encoder.onnx", "tokenizer.json"}
    for name in gone:
        (folder / name).unlink()
    (folder / "label.onnx").write_bytes(data)
    entry = FileEntry(
        name="label.onnx", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
    )
    files = (*(file for file in manifest.files if file.name not in gone), entry)
    changed = replace(manifest, components=(label_spec(), *stages_of(manifest)), files=files)
    (folder / "manifest.json").write_text(write_manifest(changed))
    return open_bundle(folder)
