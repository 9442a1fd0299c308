"""Arithmetic on sizes inside a graph: what lists of integers hold that come from shapes.

A rule gives the elements of a node's output, None for an element that does not follow, or None
where the output is no such list. Knows operators one at a time; not graphs.
"""

from collections.abc import Callable, Mapping

from onnx import NodeProto, TensorProto

from export.passes.shape_rules import Known, Numbers, attributes, integers, is_size
from export.passes.sizes import Axis, floored, minus, plus, times

INTEGERS = (TensorProto.INT64, TensorProto.INT32)
NumberRule = Callable[[Known, NodeProto], Numbers | None]


def sizes(known: Known, node: NodeProto) -> Numbers | None:
    """Shape."""
    source = known.shape(node.input[0])
    options = attributes(node)
    return None if source is None else source[options.get("start", 0) : options.get("end")]


def joined(known: Known, node: NodeProto) -> Numbers | None:
    """Concat of lists."""
    result: Numbers = ()
    for name in node.input:
        numbers = known.numbers(name)
        if numbers is None:
            return None
        result += numbers
    return result


def same(known: Known, node: NodeProto) -> Numbers | None:
    """The elements stay; whether they are a list or a scalar does not matter here."""
    if node.op_type == "Cast" and attributes(node)["to"] not in INTEGERS:
        return None
    shape = known.shape(node.output[0])
    return None if shape is None or len(shape) > 1 else known.numbers(node.input[0])


def sliced(known: Known, node: NodeProto) -> Numbers | None:
    """Slice of a list between known bounds."""
    source = known.numbers(node.input[0])
    start, end = integers(known, node, 1), integers(known, node, 2)
    step = integers(known, node, 4) if len(node.input) > 4 else [1]
    if source is None or start is None or end is None or step is None or step[0] <= 0:
        return None
    return source[start[0] : end[0] : step[0]]


def picked(known: Known, node: NodeProto) -> Numbers | None:
    """Gather from a list."""
    source, places = known.numbers(node.input[0]), integers(known, node, 1)
    if source is None or places is None or attributes(node).get("axis", 0) != 0:
        return None
    return tuple(source[place] for place in places)


def element_wise(
    operation: Callable[[Axis, Axis], Axis | None],
) -> NumberRule:
    """An operation on two lists, or on a list and a scalar."""

    def rule(known: Known, node: NodeProto) -> Numbers | None:
        first, second = (known.numbers(name) for name in node.input)
        if first is None or second is None:
            return None
        length = max(len(first), len(second))
        pairs = zip(*(n * length if len(n) == 1 else n for n in (first, second)), strict=True)
        return tuple(None if a is None or b is None else operation(a, b) for a, b in pairs)

    return rule


def divided(first: Axis, second: Axis) -> Axis | None:
    """A division of a size by a number: rounded towards 0, which for sizes is down."""
    if not isinstance(second, int) or second < 1 or not is_size(first):
        return None
    return floored(first, second)


NUMBER_RULES: Mapping[str, NumberRule] = {
    **dict.fromkeys(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"), same),
    "Add": element_wise(plus),
    "Concat": joined,
    "Div": element_wise(divided),
    "Gather": picked,
    "Mul": element_wise(times),
    "Shape": sizes,
    "Slice": sliced,
    "Sub": element_wise(minus),
}
"""Operator to rule."""
