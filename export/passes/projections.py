"""Linear layers that read the same tokens joined into one.

Requires: two or more `MatMul` of one value with constant `[K, N]` weights, each followed by `Add`
of a constant. Ensures: one `MatMul`, one `Add` and one `Split` on the last axis; a `Split` in
halves that followed a layer becomes part of it. Weight columns are moved, not changed: what lay on
a storage grid still does. In this network: query, key and value of self-attention, and the keys and
values that all blocks take from the text. Does not know attention.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.passes.editor import GraphEditor, attribute


@dataclass(frozen=True, slots=True)
class Linear:
    """One layer: its constants, and the values that it is cut into."""

    weight: NDArray[Any]
    bias: NDArray[Any]
    results: tuple[str, ...]

    @property
    def width(self) -> int:
        """Columns of each result."""
        return int(self.bias.size) // len(self.results)


def join_projections(model: onnx.ModelProto) -> int:
    """Rewrite every group of layers with the same input.

    Returns:
        How many layers were joined to others.
    """
    editor = GraphEditor(model)
    groups: dict[str, list[Linear]] = {}
    for node in editor.of_type("MatMul"):
        total = editor.only_user(node.output[0], "Add")
        weight = editor.constant(node.input[1])
        if total is None or weight is None or weight.ndim != 2:
            continue
        bias = editor.constant(next((n for n in total.input if n != node.output[0]), ""))
        if bias is None or bias.shape != weight.shape[1:]:
            continue
        layer = Linear(weight, bias, parts(editor, total.output[0]))
        groups.setdefault(node.input[0], []).append(layer)
    joined = 0
    for source, layers in groups.items():
        if len(layers) > 1:
            join(editor, source, layers)
            joined += len(layers)
    editor.finish()
    return joined


def parts(editor: GraphEditor, name: str) -> tuple[str, ...]:
    """What a value is cut into on its last axis in equal parts; itself if it is not."""
    cut, shape = editor.only_user(name, "Split"), editor.shape(name)
    if cut is None or shape is None or len(cut.input) != 1 or "" in cut.output:
        return (name,)
    width = shape[-1]
    last = attribute(cut, "axis", 0) % len(shape) == len(shape) - 1
    # Where it does not divide, the last part is smaller.
    if not last or not isinstance(width, int) or width % len(cut.output):
        return (name,)
    return tuple(cut.output)


def join(editor: GraphEditor, source: str, layers: list[Linear]) -> None:
    """One layer in the place of several."""
    weight = np.concatenate([layer.weight for layer in layers], axis=1)
    bias = np.concatenate([layer.bias for layer in layers])
    product = editor.add("MatMul", [source, editor.add_constant(weight, "projections")])
    total = editor.add("Add", [product, editor.add_constant(bias, "projection_biases")])
    results = [name for layer in layers for name in layer.results]
    widths = [layer.width for layer in layers for _ in layer.results]
    pieces = editor.add_many("Split", [total, editor.integers(*widths)], len(results), axis=-1)
    for old, new in zip(results, pieces, strict=True):
        editor.replace(old, new)
