"""The shape of every value of a graph, and the numbers of those that shapes are made of.

What passes prove with: an axis is a number, a sum of named sizes (`export.passes.sizes`), or a name
of its own where nothing follows; it is never a guess. Requires: free axes of inputs named, equal
ones alike. Ensures: every stated axis is true at every size of the free axes at which the graph
runs. ONNX's own inference fills what the rules here do not know; it knows no arithmetic on sizes.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, shape_inference

from export.passes.shape_numbers import NUMBER_RULES
from export.passes.shape_rules import RULES, Numbers, Partial, Shape
from export.passes.sizes import UNKNOWN, Axis, named

SHAPE_KEEPING = frozenset({"GroupNormalization", "QuickGelu"})
"""Operators whose output has the shape of their first input and that ONNX does not infer."""

MOST_NUMBERS = 16
"""Integer constants of more elements are no shapes."""


FLOATS = frozenset({"GroupNormalization", "MultiHeadAttention", "QuickGelu"})
"""Operators on floats of which inference knows nothing."""

FIRST_DECIDES = frozenset(
    {"Add", "Concat", "Div", "Expand", "MatMul", "Mul", "Pad", "Reshape", "Slice", "Split"}
    | {"Squeeze", "Sub", "Transpose", "Unsqueeze"}
)
"""Operators with the type of their first input, which inference may not have reached."""


class Shapes:
    """What is known of each value of one graph, worked out once in the graph's order."""

    def __init__(
        self, model: onnx.ModelProto, constant: Callable[[str], NDArray[Any] | None]
    ) -> None:
        self._constant = constant
        kinds = inferred_kinds(model)
        free = {d.dim_param for info in model.graph.input for d in info.type.tensor_type.shape.dim}
        self._inferred: Mapping[str, Partial] = {
            name: tuple(known_axis(dim, free) for dim in kind.shape.dim)
            for name, kind in kinds.items()
            if kind.HasField("shape")
        }
        self._floats = {n for n, kind in kinds.items() if kind.elem_type == TensorProto.FLOAT}
        self._shapes: dict[str, Shape] = {}
        self._numbers: dict[str, Numbers | None] = {}
        for tensor in model.graph.initializer:
            self._shapes[tensor.name] = tuple(tensor.dims)
            if tensor.data_type == TensorProto.FLOAT:
                self._floats.add(tensor.name)
        for info in model.graph.input:
            self._settle(info.name, None)
        for node in model.graph.node:
            self._visit(node)

    def shape(self, name: str) -> Shape | None:
        """The axes of a value; None where not even their number is known."""
        return self._shapes.get(name)

    def is_float(self, name: str) -> bool:
        """Whether a value is proven to be of float32."""
        return name in self._floats

    def numbers(self, name: str) -> Numbers | None:
        """The elements of a list of integers, or the one of a scalar; None where it is neither."""
        if name in self._numbers:
            return self._numbers[name]
        value = self._constant(name)
        if value is None or value.dtype not in (np.int64, np.int32):
            return None
        if value.ndim > 1 or value.size > MOST_NUMBERS:
            return None
        return tuple(int(number) for number in value.reshape(-1))

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant; None if it is not one."""
        return self._constant(name)

    def _visit(self, node: NodeProto) -> None:
        """Work out what one node makes of what is known."""
        rule, count = RULES.get(node.op_type), NUMBER_RULES.get(node.op_type)
        found = (rule(self, node) if rule is not None else None) or []
        for index, name in enumerate(filter(None, node.output)):
            self._settle(name, found[index] if index < len(found) else None)
        if count is not None:
            self._numbers[node.output[0]] = count(self, node)
        follows = node.op_type in FIRST_DECIDES and node.input[0] in self._floats
        if follows or node.op_type in FLOATS:
            self._floats.update(node.output)

    def _settle(self, name: str, partial: Partial | None) -> None:
        """Keep what a rule found; fill it up with what inference says, then with own names."""
        inferred = self._inferred.get(name)
        if partial is None or (inferred is not None and len(inferred) != len(partial)):
            partial = inferred
        if partial is None:
            return
        pairs = zip(partial, inferred or partial, strict=True)
        self._shapes[name] = tuple(
            better(*pair) or named(f"{UNKNOWN}{name}.{axis}") for axis, pair in enumerate(pairs)
        )


def better(first: Axis | None, second: Axis | None) -> Axis | None:
    """Of two true statements the one that says more: a number, then a sum of names."""
    if first is None or isinstance(second, int):
        return second
    return first


def inferred_kinds(model: onnx.ModelProto) -> Mapping[str, onnx.TypeProto.Tensor]:
    """What ONNX's own inference says of every value.

    It stops at group norms, which it knows only by definition, and at other domains' operators:
    those that leave a shape as it is stand in as identities. What the graph itself states of
    values and outputs is a claim, not a proof: it is left out.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for info in copy.graph.output:
        info.type.tensor_type.ClearField("shape")
    for node in copy.graph.node:
        if node.op_type in SHAPE_KEEPING:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
    graph = shape_inference.infer_shapes(copy, data_prop=True).graph
    return {
        info.name: info.type.tensor_type
        for info in (*graph.value_info, *graph.input, *graph.output)
    }


def known_axis(dim: onnx.TensorShapeProto.Dimension, free: Collection[str]) -> Axis | None:
    """An axis as inference has it; names that it made up are marked as such."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if not dim.dim_param:
        return None
    return named(dim.dim_param if dim.dim_param in free else f"{UNKNOWN}{dim.dim_param}")
