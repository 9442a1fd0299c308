"""What each operator does to shapes, where that follows from the operator's definition alone.

A rule gives the axes of a node's outputs, None for an axis or a shape that does not follow. Knows
operators one at a time; not graphs.

References:
    The shapes in ONNX's operator definitions, operator sets up to 23 (onnx.ai/onnx/operators).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.passes.sizes import Axis, Size, floored, minus, plus, quotient, times

Shape = tuple[Axis, ...]
Partial = tuple[Axis | None, ...]
Numbers = tuple[Axis | None, ...]


class Known(Protocol):
    """What was worked out of the values before a node."""

    def shape(self, name: str) -> Shape | None:
        """The axes of a value."""

    def numbers(self, name: str) -> Numbers | None:
        """The elements of a list of integers."""

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant."""


Rule = Callable[[Known, NodeProto], Sequence[Partial | None] | None]


def attributes(node: NodeProto) -> dict[str, Any]:
    """All attributes of a node as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def integers(known: Known, node: NodeProto, index: int) -> list[int] | None:
    """The elements of an input that is a list of known integers; None where it is not."""
    if len(node.input) <= index or not node.input[index]:
        return None
    numbers = known.numbers(node.input[index])
    if numbers is None or not all(isinstance(number, int) for number in numbers):
        return None
    return [number for number in numbers if isinstance(number, int)]


def of_first(known: Known, node: NodeProto) -> Sequence[Partial | None]:
    """The shape of the first input."""
    return [known.shape(node.input[0])]


def element_wise(known: Known, node: NodeProto) -> Sequence[Partial | None]:
    """All inputs broadcast."""
    shapes = [known.shape(name) for name in node.input if name]
    result: Partial = ()
    for shape in shapes:
        if shape is None:
            return [None]
        result = broadcast(result, shape)
    return [result]


def broadcast(first: Partial, second: Partial) -> Partial:
    """The shape of an element-wise result of two."""
    rank = max(len(first), len(second))
    one, other = ((1,) * (rank - len(s)) + tuple(s) for s in (first, second))
    return tuple(map(joint, one, other))


def joint(first: Axis | None, second: Axis | None) -> Axis | None:
    """The axis that two broadcast to; a free one may be 1, a number above 1 wins over it."""
    if first == second or second == 1:
        return first
    if first == 1:
        return second
    # Two different names may be equal at one size and not at the next: nothing is proven of them.
    numbers = [axis for axis in (first, second) if isinstance(axis, int)]
    return numbers[0] if len(numbers) == 1 else None


def product(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """MatMul of matrices and stacks of them."""
    first, second = (known.shape(name) for name in node.input)
    # A vector on either side drops an axis, by a rule of NumPy's that no stage of ours uses.
    if first is None or second is None or min(len(first), len(second)) < 2:
        return None
    return [(*broadcast(first[:-2], second[:-2]), first[-2], second[-1])]


def affine_product(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Gemm."""
    first, second = (known.shape(name) for name in node.input[:2])
    if first is None or second is None:
        return None
    options = attributes(node)
    rows = first[1 if options.get("transA") else 0]
    return [(rows, second[0 if options.get("transB") else 1])]


def windows(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Convolutions and poolings: `floor((n + pads - reach) / stride) + 1` on each axis."""
    source = known.shape(node.input[0])
    weight = known.shape(node.input[1]) if node.op_type == "Conv" else ()
    options = attributes(node)
    if source is None or weight is None or options.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    kernel = list(weight[2:]) or options.get("kernel_shape", [])
    channels = weight[0] if weight else source[1]
    axes = len(source) - 2
    strides, dilations = (options.get(n) or [1] * axes for n in ("strides", "dilations"))
    pads = options.get("pads") or [0] * 2 * axes
    # With ceil_mode the last window may hang over the edge, and how far depends on the padding.
    if len(kernel) != axes or options.get("ceil_mode"):
        return None
    sizes = []
    for axis, (size, width) in enumerate(zip(source[2:], kernel, strict=True)):
        if not isinstance(width, int):
            return None
        reach = (width - 1) * dilations[axis] + 1
        # Begins of all axes come first in `pads`, then all ends.
        steps = floored(plus(size, pads[axis] + pads[axis + axes] - reach), strides[axis])
        sizes.append(None if steps is None else plus(steps, 1))
    return [(source[0], channels, *sizes)]


def transposed_windows(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """ConvTranspose: `stride (n - 1) + output padding + reach - pads` on each axis."""
    source, weight = (known.shape(name) for name in node.input[:2])
    options = attributes(node)
    if source is None or weight is None or options.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    axes = len(source) - 2
    strides, dilations = (options.get(n) or [1] * axes for n in ("strides", "dilations"))
    pads = options.get("pads") or [0] * 2 * axes
    extra = options.get("output_padding") or [0] * axes
    # output_shape replaces the pads by others that are computed from it.
    if "output_shape" in options or not all(isinstance(k, int) for k in weight[2:]):
        return None
    sizes = []
    for axis, (size, kernel) in enumerate(zip(source[2:], weight[2:], strict=True)):
        reach = plus(times(minus(kernel, 1), dilations[axis]), 1)
        margin = extra[axis] - pads[axis] - pads[axis + axes]
        sizes.append(plus(times(minus(size, 1), strides[axis]), reach, margin))
    return [(source[0], times(weight[1], options.get("group", 1)), *sizes)]


def whole_pool(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """One position is left."""
    source = known.shape(node.input[0])
    return None if source is None else [(*source[:2], *(1 for _ in source[2:]))]


def joined(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Concat: sizes add up on its axis and are equal on all others."""
    shapes = [shape for name in node.input if (shape := known.shape(name)) is not None]
    ranks = {len(shape) for shape in shapes}
    if len(shapes) != len(node.input) or len(ranks) != 1:
        return None
    (rank,) = ranks
    place = attributes(node)["axis"] % rank

    def one(axes: Sequence[Axis]) -> Axis:
        # All inputs must agree here, so that a number among them is the size of the free ones too.
        return next((axis for axis in axes if isinstance(axis, int)), axes[0])

    columns = list(zip(*shapes, strict=True))
    return [tuple(plus(*c) if i == place else one(c) for i, c in enumerate(columns))]


def cut(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Split: by listed widths, or in equal parts."""
    source = known.shape(node.input[0])
    if source is None:
        return None
    place = attributes(node).get("axis", 0) % len(source)
    count = len(node.output)
    widths: Sequence[Axis | None] = (None,) * count
    if len(node.input) > 1:
        widths = known.numbers(node.input[1]) or widths
    else:
        part = floored(source[place], count)
        # An axis that does not divide gives a smaller last part, by a rule that came with a later
        # set.
        if part is not None and times(part, count) == source[place]:
            widths = (part,) * count
    return [(*source[:place], width, *source[place + 1 :]) for width in widths]


def turned(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Transpose."""
    source = known.shape(node.input[0])
    if source is None:
        return None
    order = attributes(node).get("perm") or range(len(source))[::-1]
    return [tuple(source[axis] for axis in order)]


def reshaped(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Reshape: 0 copies an axis, -1 takes what is left."""
    source, target = known.shape(node.input[0]), known.numbers(node.input[1])
    if target is None:
        return None
    zero_copies = not attributes(node).get("allowzero", 0)
    axes: list[Axis | None] = []
    for index, size in enumerate(target):
        # With allowzero a 0 is an empty axis, which no graph of ours means to make.
        if size == 0 and zero_copies:
            axes.append(source[index] if source is not None and index < len(source) else None)
        else:
            axes.append(size if is_size(size) else None)
    if -1 in target:
        others = [axis for axis, size in zip(axes, target, strict=True) if size != -1]
        rest = [axis for axis in others if axis is not None]
        # What -1 stands for follows only where every other axis is known, and divides.
        if source is not None and len(rest) == len(others):
            axes[target.index(-1)] = quotient(source, rest)
    return [tuple(axes)]


def is_size(axis: Axis | None) -> bool:
    """Whether a number is the size that it stands for, and not a sign or less than nothing."""
    return axis.positive if isinstance(axis, Size) else axis is not None and axis > 0


def widened(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Expand: the input and the listed shape broadcast."""
    source, target = known.shape(node.input[0]), known.numbers(node.input[1])
    if source is None or target is None:
        return None
    # Expand never shrinks: a listed 1 leaves the input's axis as it is, as broadcasting does.
    return [broadcast(source, tuple(axis if is_size(axis) else None for axis in target))]


def with_ones(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Unsqueeze."""
    source, places = known.shape(node.input[0]), integers(known, node, 1)
    if source is None or places is None:
        return None
    rank = len(source) + len(places)
    # Negative places count from the end of the result, not of the input.
    new = {place % rank for place in places}
    rest = iter(source)
    return [tuple(1 if axis in new else next(rest) for axis in range(rank))]


def without_ones(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Squeeze of listed axes."""
    source, places = known.shape(node.input[0]), integers(known, node, 1)
    if source is None or places is None:
        return None
    gone = {place % len(source) for place in places}
    return [tuple(size for axis, size in enumerate(source) if axis not in gone)]


def reduced(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """ReduceMean and its like over listed axes."""
    source, places = known.shape(node.input[0]), integers(known, node, 1)
    options = attributes(node)
    # The list moved from an attribute to an input in operator set 18; empty means all axes.
    places = places or options.get("axes")
    if source is None or not places:
        return None
    gone = {place % len(source) for place in places}
    if options.get("keepdims", 1):
        return [tuple(1 if axis in gone else size for axis, size in enumerate(source))]
    return [tuple(size for axis, size in enumerate(source) if axis not in gone)]


def picked(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Gather."""
    source, places = (known.shape(name) for name in node.input)
    if source is None or places is None:
        return None
    axis = attributes(node).get("axis", 0) % len(source)
    return [(*source[:axis], *places, *source[axis + 1 :])]


def padded(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Pad on all axes."""
    source, pads = known.shape(node.input[0]), known.numbers(node.input[1])
    # A fourth input names the axes that are padded; then `pads` is shorter and means those.
    if source is None or pads is None or len(pads) != 2 * len(source) or len(node.input) > 3:
        return None
    before, after = pads[: len(source)], pads[len(source) :]
    return [
        tuple(
            None if first is None or last is None else plus(size, first, last)
            for size, first, last in zip(source, before, after, strict=True)
        )
    ]


def shuffled(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """DepthToSpace."""
    source = known.shape(node.input[0])
    if source is None or len(source) != 4:
        return None
    block = attributes(node)["blocksize"]
    height, width = (times(size, block) for size in source[2:])
    # Both modes, DCR and CRD, differ in the order of channels alone.
    return [(source[0], quotient([source[1]], [block * block]), height, width)]


def resized(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Resize of all axes to listed sizes, or by whole factors."""
    source = known.shape(node.input[0])
    options = attributes(node)
    policy = options.get("keep_aspect_ratio_policy", b"stretch")
    if source is None or "axes" in options or policy != b"stretch":
        return None
    if len(node.input) > 3 and node.input[3]:
        sizes = known.numbers(node.input[3])
        return None if sizes is None else [tuple(n if is_size(n) else None for n in sizes)]
    factors = known.constant(node.input[2]) if len(node.input) > 2 else None
    if (
        factors is None
        or factors.size != len(source)
        or b"crop" in options.get("coordinate_transformation_mode", b"")
    ):
        return None
    return [
        tuple(
            # Engines round half sizes differently: a broken factor proves nothing of the result.
            times(size, int(factor)) if factor == np.floor(factor) else None
            for size, factor in zip(source, factors.reshape(-1), strict=True)
        )
    ]


def shape_of(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """As many numbers as there are axes between its bounds."""
    source = known.shape(node.input[0])
    options = attributes(node)
    if source is None:
        return None
    return [(len(source[options.get("start", 0) : options.get("end")]),)]


def filled(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """ConstantOfShape."""
    numbers = known.numbers(node.input[0])
    return None if numbers is None else [tuple(n if is_size(n) else None for n in numbers)]


def attended(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """ONNX Runtime's MultiHeadAttention of tokens."""
    query, value = known.shape(node.input[0]), known.shape(node.input[2])
    if query is None or value is None or len(query) != 3 or len(value) != 3:
        return None
    return [(*query[:2], value[2])]


def contracted(known: Known, node: NodeProto) -> Sequence[Partial | None] | None:
    """Einsum of listed axes, its result written out."""
    equation = attributes(node)["equation"].decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms, shapes = left.split(","), [known.shape(name) for name in node.input]
    if not arrow or "." in equation or len(terms) != len(shapes):
        return None
    sizes: dict[str, Axis | None] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if shape is None or len(shape) != len(term):
            return None
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = joint(sizes.get(letter, 1), size)
    return [tuple(sizes[letter] for letter in right)]


UNARY = (
    "Abs BatchNormalization Cast Ceil Clip Cos Dropout Elu Erf Exp Floor Gelu GroupNormalization "
    "HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Log "
    "LogSoftmax LpNormalization Mish Neg Not QuickGelu Reciprocal Relu Round Selu Sigmoid Sign Sin "
    "Softmax Softplus Sqrt Tanh"
)
BINARY = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum "
    "Where Xor"
)
REDUCTIONS = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(UNARY.split(), of_first),
    **dict.fromkeys(BINARY.split(), element_wise),
    **dict.fromkeys(REDUCTIONS.split(), reduced),
    **dict.fromkeys(("Conv", "AveragePool", "MaxPool"), windows),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), whole_pool),
    "Concat": joined,
    "ConstantOfShape": filled,
    "ConvTranspose": transposed_windows,
    "DepthToSpace": shuffled,
    "Einsum": contracted,
    "Expand": widened,
    "Gather": picked,
    "Gemm": affine_product,
    "MatMul": product,
    "MultiHeadAttention": attended,
    "Pad": padded,
    "Reshape": reshaped,
    "Resize": resized,
    "Shape": shape_of,
    "Split": cut,
    "Squeeze": without_ones,
    "Transpose": turned,
    "Unsqueeze": with_ones,
}
"""Operator to rule. Operators that are not here are left to ONNX's own inference."""
