"""Weights in the smallest format that holds them exactly.

Requires: float32 initialisers, some of which lie on a half-precision or eight-bit grid because the
released weights were rounded before anything was measured. Ensures: the graph computes the very
same numbers in float32; a stored weight is widened by nodes that runtimes fold at loading, so that
speed is untouched. Knows ONNX graphs; not which networks they are.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.fresh_names import FreshNames
from export.weights.weight_grid import LEVELS, GridWeight, along, find_grid

# Below it the nodes that widen a weight weigh more than what is saved.
SMALL = 256
"""Initialisers of fewer elements stay as they are."""
MOST_STEPS = 2048
"""float16 holds every whole number up to it."""
FEW = 0.1
"""Share of a weight's elements that may be stored apart, in six bytes each."""


@dataclass(frozen=True, slots=True)
class ScatteredWeight:
    """A weight as whole numbers of one step, the few beyond eight bits apart.

    Attributes:
        levels: int8, the weight's shape; 0 where an exception is.
        step: of all of them, a power of two.
        places: int32 `[m]`, flat, of the exceptions.
        exceptions: float16 `[m]`, whole numbers of steps.
    """

    levels: NDArray[np.int8]
    step: np.float32
    places: NDArray[np.int32]
    exceptions: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Widened:
    """A weight stored as levels and steps, by the names of what gives it back."""

    levels: str
    wide: str
    steps: str
    by_row: bool
    """Whether the steps are one per row."""


def store_exactly(model: onnx.ModelProto) -> Counter[str]:
    """Shrink every large float32 initialiser that a smaller format holds without loss.

    Returns:
        Bytes by storage format, for the report.
    """
    graph = model.graph
    names = FreshNames(model)
    widened: dict[str, Widened] = {}
    bytes_by_format: Counter[str] = Counter()
    nodes: list[NodeProto] = []
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < SMALL:
            kept.append(tensor)
            bytes_by_format[value.dtype.name] += value.nbytes
            continue
        # Eight bits before sixteen: what lies on the coarser grid may lie on the finer one too.
        grid = eight_bit_grid(value)
        if grid is not None:
            widened[tensor.name], added, stored = widen_grid(tensor.name, grid, names)
            nodes += added
        elif (scattered := few_exceptions(value)) is not None:
            added, stored = widen_scattered(tensor, scattered, names)
            nodes += added
        elif np.array_equal(to_half(value), value):
            half = names.fresh(f"{tensor.name}_f16")
            stored = [numpy_helper.from_array(to_half(value), half)]
            nodes.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
        else:
            stored = [tensor]
        kept += stored
        for item in stored:
            name = np.dtype(helper.tensor_dtype_to_np_dtype(item.data_type)).name
            bytes_by_format[name] += len(item.raw_data)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    body = list(graph.node)
    del graph.node[:]
    # In front: they read initialisers alone, and anything may read them.
    graph.node.extend(nodes + body)
    gather_before_widening(model, widened, names)
    onnx.checker.check_model(model)
    return bytes_by_format


def to_half(value: NDArray[np.float32]) -> NDArray[np.float16]:
    """The nearest half-precision numbers in the same shape; infinity beyond their range."""
    with np.errstate(over="ignore"):
        return value.astype(np.float16)


def eight_bit_grid(value: NDArray[np.float32]) -> GridWeight | None:
    """A weight as int8 and one step per output channel, if that is exact; else None.

    Which axis the channel is depends on the node that uses the weight, of any shape; both are
    tried.
    """
    if value.ndim < 2:
        return None
    # 0 for convolutions and Gemm, 1 for MatMul and transposed convolutions.
    for axis in (0, 1):
        found = find_grid(value, axis)
        if found is not None:
            return found
    return None


def widen_grid(
    name: str, grid: GridWeight, names: FreshNames
) -> tuple[Widened, list[NodeProto], list[TensorProto]]:
    """Nodes and initialisers that give `levels * steps` under the old name."""
    steps = along(grid.steps, grid.axis, grid.levels.ndim)
    levels, scale, wide = (names.fresh(f"{name}_{end}") for end in ("i8", "scale", "wide"))
    stored = [numpy_helper.from_array(grid.levels, levels), numpy_helper.from_array(steps, scale)]
    nodes = [
        helper.make_node("Cast", [levels], [wide], to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, scale], [name]),
    ]
    return Widened(levels, wide, scale, steps.shape[1:] == (1,)), nodes, stored


def few_exceptions(value: NDArray[np.float32]) -> ScatteredWeight | None:
    """A weight of any shape as int8 with at most `FEW` exceptions, if that is exact; else None.

    Weights of exact networks are such: whole numbers of one step, a few of them large.
    """
    if not np.isfinite(value).all() or not value.any():
        return None
    # The step is the largest power of two that divides every element: 24 bits hold it exactly.
    mantissas, exponents = np.frexp(value[value != 0].astype(np.float64))
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    step = np.ldexp(1.0, int((exponents - 53 + trailing).min()))
    if step < np.finfo(np.float32).tiny:
        return None
    counted = value.astype(np.float64).reshape(-1) / step
    places = np.flatnonzero(np.abs(counted) > LEVELS)
    # None apart: a vector, which float16 holds; OpenVINO takes no ScatterElements of nothing.
    if not 0 < places.size <= FEW * value.size or np.abs(counted).max() > MOST_STEPS:
        return None
    levels = counted.astype(np.int16)
    levels[places] = 0
    return ScatteredWeight(
        levels.astype(np.int8).reshape(value.shape),
        np.float32(step),
        places.astype(np.int32),
        counted[places].astype(np.float16),
    )


def widen_scattered(
    tensor: TensorProto, weight: ScatteredWeight, names: FreshNames
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and initialisers that give a weight back under its name."""
    values = {
        "i8": weight.levels.reshape(-1),
        "places": weight.places,
        "beyond": weight.exceptions,
        "step": np.float32(weight.step),
        "shape": np.array(tensor.dims, np.int64),
    }
    of = {end: names.fresh(f"{tensor.name}_{end}") for end in values}
    wide, beyond, put, flat = (
        names.fresh(f"{tensor.name}_{end}") for end in ("wide", "apart", "whole", "flat")
    )
    float32 = TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", [of["i8"]], [wide], to=float32),
        helper.make_node("Cast", [of["beyond"]], [beyond], to=float32),
        helper.make_node("ScatterElements", [wide, of["places"], beyond], [put], axis=0),
        helper.make_node("Mul", [put, of["step"]], [flat]),
        helper.make_node("Reshape", [flat, of["shape"]], [tensor.name]),
    ]
    return nodes, [numpy_helper.from_array(np.asarray(v), of[end]) for end, v in values.items()]


def gather_before_widening(
    model: onnx.ModelProto, widened: dict[str, Widened], names: FreshNames
) -> None:
    """Look rows up while they are still small: an embedding table never becomes float32 as a whole.

    Requires: `Gather(Mul(Cast(levels), scales), ids)` on axis 0 with scales per row, read by nobody
    else. Ensures: `Mul(Cast(Gather(levels, ids)), Gather(scales, ids))`, the same numbers.
    """
    graph = model.graph
    users: Counter[str] = Counter(name for node in graph.node for name in node.input)
    # An output is a reader: a table that is one must stay, whole and under its name.
    users.update(info.name for info in graph.output)
    rebuilt: list[NodeProto] = []
    dropped: set[str] = set()
    for node in graph.node:
        table = node.input[0] if node.op_type == "Gather" else ""
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        stored = widened.get(table)
        if stored is None or axis or not stored.by_row or users[table] > 1:
            rebuilt.append(node)
            continue
        ids, out = node.input[1], node.output[0]
        dropped |= {table, stored.wide}
        levels, wide, scale = (names.fresh(f"{out}_{end}") for end in ("i8", "wide", "scale"))
        rebuilt += [
            helper.make_node("Gather", [stored.levels, ids], [levels], axis=0),
            helper.make_node("Cast", [levels], [wide], to=TensorProto.FLOAT),
            helper.make_node("Gather", [stored.steps, ids], [scale], axis=0),
            helper.make_node("Mul", [wide, scale], [out]),
        ]
    del graph.node[:]
    graph.node.extend(node for node in rebuilt if node.output[0] not in dropped)
