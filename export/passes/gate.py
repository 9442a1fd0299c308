"""Whether a graph under rewriting is still the graph that it was, tried and not believed.

Ensures: the rewritten graph is valid, loads in ONNX Runtime, answers as the plain export at two
batch sizes and two sizes of every other free axis, and has every shape that its `value_info`
declares in both of those runs. ONNX Runtime plans memory from declared shapes and refuses or fails
in the run where one is false. What is compared is coarse: how exact the graph is, parity measures.
Knows graphs and ONNX Runtime; not what a pass is after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper

from cascade.engines.ort import OrtEngine
from cascade.errors import EngineError
from cascade.types import Array
from export.passes.attention import fuse_attention
from export.passes.editor import GraphEditor
from export.passes.sizes import at

SIZES: tuple[Mapping[str, int], ...] = (
    {"batch": 1, "height": 64, "width": 32, "tokens": 5},
    {"batch": 2, "height": 32, "width": 96, "tokens": 8},
)
"""Of the named axes; heights and widths are multiples of `export.free_axes.STRIDE`."""

OTHER_SIZES = (3, 4)
"""Of free axes of other names."""

FAR = 0.05
"""Largest difference from the plain export, in standard deviations of its answer: above anything
that rounding does in float32, below any other network."""

MOST_LOGITS = 256 << 20
"""Bytes of one attention's logits that the plain export may hold; a run holds them twice."""

DTYPES = {TensorProto.FLOAT: np.float32, TensorProto.INT64: np.int64}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the plain export."""

    sizes: Mapping[str, int]
    inputs: Mapping[str, Array]
    answers: Mapping[str, Array]


class Gate:
    """What rewritten forms of one graph are held against."""

    def __init__(self, plain: onnx.ModelProto) -> None:
        """Run the plain export; sizes at which it cannot run itself are left out.

        Where its attention would hold too much, it runs with `fuse_attention`, which proves what it
        replaces; the whole is compared with torch in the end.
        """
        every = [axis_sizes(plain, named, OTHER_SIZES[n]) for n, named in enumerate(SIZES)]
        engine = OrtEngine(in_little_memory(plain, every).SerializeToString())
        self._runs: list[Run] = []
        for sizes in every:
            inputs = synthetic_inputs(plain, sizes)
            try:
                self._runs.append(Run(sizes, inputs, engine.run(inputs)))
            # A network may not divide by some size: what the plain export cannot do, no form of it
            # must.
            except EngineError:
                continue
        engine.close()

    def problem(self, model: onnx.ModelProto) -> str | None:
        """What is wrong with a rewritten form of the graph, in one line; None where nothing is."""
        try:
            onnx.checker.check_model(model)
            return self._false_answer(model) or self._false_declaration(model)
        except (EngineError, onnx.checker.ValidationError) as failed:
            return " ".join(str(failed).split())

    def _false_answer(self, model: onnx.ModelProto) -> str | None:
        """The first output that is not the plain export's."""
        engine = OrtEngine(model.SerializeToString())
        for run in self._runs:
            found = engine.run(run.inputs)
            for name, wanted in run.answers.items():
                missed = distance(found[name], wanted)
                if missed > FAR:
                    return f"{name} is {missed:.2g} standard deviations off in {described(run)}"
        engine.close()
        return None

    def _false_declaration(self, model: onnx.ModelProto) -> str | None:
        """The first entry of `value_info` that a run contradicts, or that no run could confirm."""
        declared = {info.name: info.type.tensor_type for info in model.graph.value_info}
        if not declared:
            return None
        if not self._runs:
            return "the graph could not be run: what it declares is not known to be true"
        # Declared shapes are taken out first: an engine may believe them and then answer by them.
        engine = OrtEngine(with_shapes(model))
        for run in self._runs:
            found = engine.run(run.inputs)
            for name, kind in declared.items():
                shape = tuple(int(n) for n in found[shape_of(name)])
                if not agrees(kind.shape, shape, run.sizes):
                    labels = [d.dim_param or d.dim_value for d in kind.shape.dim]
                    return f"{name} is declared {labels} and was {shape} in {described(run)}"
        engine.close()
        return None


def in_little_memory(plain: onnx.ModelProto, every: Sequence[Mapping[str, int]]) -> onnx.ModelProto:
    """The graph, or a copy whose attention works in blocks where the logits are too large."""
    if max((logits_bytes(plain, sizes) for sizes in every), default=0) <= MOST_LOGITS:
        return plain
    blocked = onnx.ModelProto()
    blocked.CopyFrom(plain)
    fuse_attention(blocked)
    return blocked


def logits_bytes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> int:
    """Of the largest softmax, at some sizes of the free axes; what is not proven counts as 1."""
    editor = GraphEditor(model)
    shapes = [editor.shape(node.output[0]) or () for node in editor.of_type("Softmax")]
    return max((4 * prod(at(axis, sizes) for axis in shape) for shape in shapes), default=0)


def axis_sizes(model: onnx.ModelProto, named: Mapping[str, int], other: int) -> dict[str, int]:
    """A size for every free axis of the inputs."""
    names = {
        dim.dim_param
        for info in model.graph.input
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param
    }
    return {name: named.get(name, other) for name in names}


def synthetic_inputs(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Inputs of these sizes: normal numbers in pictures and tokens, 0 to 1 in vectors and masks.

    Whole numbers are 0 and 1: those are rows of every table.
    """
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for info in model.graph.input:
        kind = info.type.tensor_type
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in kind.shape.dim]
        dtype = DTYPES.get(kind.elem_type, np.float32)
        if dtype is np.int64:
            # 0 and 1 rather than random ids: a table of two rows is legal, and a mask is whole too.
            inputs[info.name] = rng.integers(0, 2, shape)
        else:
            values = rng.standard_normal(shape) if len(shape) > 2 else rng.random(shape)
            inputs[info.name] = values.astype(np.float32)
    return inputs


def distance(found: Array, wanted: Array) -> float:
    """Largest difference in standard deviations of what was wanted; infinite for another shape."""
    if found.shape != wanted.shape:
        return float("inf")
    # Where the plain export is not finite itself, on made-up inputs, nothing is asked.
    finite = np.isfinite(wanted)
    if not finite.any():
        return 0.0
    missed = np.abs(found[finite].astype(np.float64) - wanted[finite]).max()
    # Outputs near a constant have hardly a deviation; a thousandth of their size stands for it
    # then.
    scale = max(float(wanted[finite].std()), float(np.abs(wanted[finite]).max()) * 1e-3, 1e-6)
    return float("inf") if np.isnan(missed) else float(missed) / scale


def shape_of(name: str) -> str:
    """What the shape of a value is called as an output."""
    return f"shape_of:{name}"


def with_shapes(model: onnx.ModelProto) -> bytes:
    """A copy that declares nothing and also gives the shape of everything that was declared."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [info.name for info in copy.graph.value_info]
    del copy.graph.value_info[:]
    for name in names:
        copy.graph.node.append(helper.make_node("Shape", [name], [shape_of(name)]))
        copy.graph.output.append(
            helper.make_tensor_value_info(shape_of(name), TensorProto.INT64, [None])
        )
    return copy.SerializeToString()


def agrees(
    declared: onnx.TensorShapeProto, found: tuple[int, ...], sizes: Mapping[str, int]
) -> bool:
    """Whether a shape is the declared one: numbers, and multiples of named axes."""
    if len(declared.dim) != len(found):
        return False
    for dim, size in zip(declared.dim, found, strict=True):
        if dim.HasField("dim_value") and dim.dim_value != size:
            return False
        if dim.dim_param and labelled(dim.dim_param, sizes) != size:
            return False
    return True


def labelled(label: str, sizes: Mapping[str, int]) -> Fraction | None:
    """The size that `name*2/3` stands for; None where there is no such axis."""
    product, _, under = label.partition("/")
    name, _, over = product.partition("*")
    if name not in sizes:
        return None
    # Exact: with floats a third of 96 could miss the 32 that was declared.
    return Fraction(sizes[name] * int(over or 1), int(under or 1))


def described(run: Run) -> str:
    """The sizes of a run, for people."""
    sizes = ", ".join(f"{name} {size}" for name, size in sorted(run.sizes.items()))
    return f"a run of {sizes or 'fixed sizes'}"
