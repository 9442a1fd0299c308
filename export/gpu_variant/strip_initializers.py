"""Weights that another file of the bundle already holds are left out of this one.

Requires: the stored graph's large weights are stored as `export.weights.exact_storage` stores them.
Ensures: the other graph, completed by `shared_initializers.attach_initializers`, computes with the
very same float32 numbers; a weight that the stored graph does not hold in this shape (the passes
for CPUs split and join some) stays, in eight bits where that is exact.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.fresh_names import FreshNames, names_in
from export.weights.exact_storage import eight_bit_grid
from export.weights.weight_grid import along

LARGE = 256
"""Weights of fewer elements are not worth a name in another file."""


@dataclass(frozen=True, slots=True)
class SharedWeight:
    """One weight that the stored graph keeps: nodes and small constants that rebuild it."""

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...]


class SharedWeights:
    """The weights of a stored graph, found by value, for one graph that leaves its own out."""

    def __init__(self, model: onnx.ModelProto, other: onnx.ModelProto) -> None:
        # A name that means something else over there cannot stand for a weight of this file.
        self.elsewhere = names_in(other)
        self.fresh = FreshNames(model, other)
        self.values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.steps = steps_of(model)
        self.by_shape: dict[tuple[int, ...], list[str]] = {}
        for name, value in self.values.items():
            if value.size >= LARGE:
                self.by_shape.setdefault(value.shape, []).append(name)

    def find(self, name: str, value: NDArray[np.float32]) -> SharedWeight | None:
        """How to have a weight, of any shape, from this file; None when it is not in it."""
        for stored_name in self.by_shape.get(value.shape, ()):
            # Under another name it would shadow a value of the other graph once both are joined.
            if stored_name != name and stored_name in self.elsewhere:
                continue
            stored = self.values[stored_name]
            if stored.dtype == np.int8:
                steps = self.values.get(self.steps.get(stored_name, ""))
                # Equal to the last bit, or not shared: nearly equal would make two products of one
                # bundle differ.
                if steps is not None and np.array_equal(widened(stored, steps), value):
                    return from_levels(name, stored_name, steps, self.fresh)
            elif np.array_equal(stored.astype(np.float32), value):
                return from_floats(name, stored_name, stored)
        return None


def steps_of(model: onnx.ModelProto) -> dict[str, str]:
    """Levels to the steps that `exact_storage` multiplies them with; both are constants."""
    made = {name: node for node in model.graph.node for name in node.output}

    def constant(name: str) -> str:
        # Rows of an embedding table are looked up before they are widened.
        node = made.get(name)
        return node.input[0] if node is not None and node.op_type == "Gather" else name

    found: dict[str, str] = {}
    for node in model.graph.node:
        wide = made.get(node.input[0]) if node.op_type == "Mul" else None
        if wide is not None and wide.op_type == "Cast":
            found[constant(wide.input[0])] = constant(node.input[1])
    return found


def widened(levels: NDArray[np.int8], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels of any shape times steps that broadcast against it: the weight computed with."""
    return np.asarray(levels * steps, np.float32)


def from_floats(name: str, stored_name: str, stored: NDArray) -> SharedWeight:
    """A weight of any shape that is stored as a float of some width."""
    if stored_name == name:
        return SharedWeight((), ())
    if stored.dtype == np.float32:
        return SharedWeight((helper.make_node("Identity", [stored_name], [name]),), ())
    widen = helper.make_node("Cast", [stored_name], [name], to=TensorProto.FLOAT)
    return SharedWeight((widen,), ())


def from_levels(
    name: str, stored_name: str, steps: NDArray[np.float32], names: FreshNames
) -> SharedWeight:
    """A weight that is stored as whole numbers of one step per channel.

    The steps are written here too, as the vector that DequantizeLinear wants: they are small, and
    it is the one operator behind which TensorRT takes eight-bit constants.

    Args:
        name: of the weight.
        stored_name: of its int8 levels in the stored graph.
        steps: of the weight's shape, but with all axes except the channel's of size 1.
        names: gives new ones.
    """
    # Of all axes but the channel's the size is 1; of a single channel any axis is right.
    axis = int(np.argmax(steps.shape))
    constant = numpy_helper.from_array(steps.reshape(-1), names.fresh(f"{name}_steps"))
    node = helper.make_node("DequantizeLinear", [stored_name, constant.name], [name], axis=axis)
    return SharedWeight((node,), (constant,))


def stored_small(name: str, value: NDArray[np.float32], names: FreshNames) -> SharedWeight | None:
    """A weight of any shape that no other file keeps, in its own eight bits; None if not exact."""
    grid = eight_bit_grid(value)
    if grid is None:
        return None
    levels = numpy_helper.from_array(grid.levels, names.fresh(f"{name}_levels"))
    shared = from_levels(name, levels.name, along(grid.steps, grid.axis, value.ndim), names)
    return SharedWeight(shared.nodes, (levels, *shared.constants))


def strip_shared_weights(model: onnx.ModelProto, stored: onnx.ModelProto) -> int:
    """Leave out, in place, every large weight that the stored graph holds exactly.

    Returns:
        Bytes of weights that stayed.
    """
    found = SharedWeights(stored, model)
    nodes: list[NodeProto] = []
    kept: list[TensorProto] = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        large = value.size >= LARGE and value.dtype == np.float32
        shared = None
        if large:
            name = tensor.name
            shared = found.find(name, value) or stored_small(name, value, found.fresh)
        if shared is None:
            kept.append(tensor)
            continue
        nodes.extend(shared.nodes)
        kept.extend(shared.constants)
    body = list(model.graph.node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.node[:]
    model.graph.node.extend(nodes + body)
    return sum(len(tensor.raw_data) for tensor in kept)
