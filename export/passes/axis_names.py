"""Names for the axes of feature maps, so that ONNX Runtime can see which maps have one shape.

Its blocked layout adds a residual inside the convolution before it only where both shapes are known
to be equal; behind reshapes, strides and free axes they are not, and a plain export gets no such
sum at all. Requires: inputs whose free axes are named, heights and widths that divide by every
stride. Ensures: an entry of `value_info` for every feature map that is reached from an input
picture, `[batch, C, H, W]` with sizes where they are known and names like `height/8` where they are
not. No node is touched. Does not know how heights are checked: that is the runtime's.
"""

from fractions import Fraction
from typing import NamedTuple

import onnx
from onnx import NodeProto, TensorProto, helper

from export.passes.editor import GraphEditor, attribute, in_order


class Axis(NamedTuple):
    """A size, as a multiple of a named axis; of none where it is just a number."""

    factor: Fraction
    name: str = ""

    @property
    def label(self) -> int | str:
        """As `value_info` has it."""
        if not self.name:
            return int(self.factor)
        over, under = self.factor.numerator, self.factor.denominator
        times = f"{self.name}*{over}" if over > 1 else self.name
        return f"{times}/{under}" if under > 1 else times


Picture = tuple[Axis, Axis, Axis, Axis]

SAME_SHAPE = ("Mul", "Add", "Sub", "QuickGelu", "Sigmoid", "BatchNormalization")


def name_feature_axes(model: onnx.ModelProto) -> int:
    """Write down the shape of every feature map.

    Returns:
        How many convolutions have an output of known shape.
    """
    editor = GraphEditor(model)
    known: dict[str, Picture] = {}
    for info in model.graph.input:
        dims = [
            Axis(Fraction(1), d.dim_param) if d.dim_param else Axis(Fraction(d.dim_value))
            for d in info.type.tensor_type.shape.dim
        ]
        if len(dims) == 4:
            known[info.name] = (dims[0], dims[1], dims[2], dims[3])
    makers = {name: node for node in editor.nodes for name in node.output}
    for node in in_order(makers, [info.name for info in model.graph.output]):
        shape = picture_shape(editor, node, known)
        if shape is not None:
            known[node.output[0]] = shape
    outside = {info.name for info in (*model.graph.input, *model.graph.output)}
    del model.graph.value_info[:]
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis.label for axis in shape])
        for name, shape in known.items()
        if name not in outside
    )
    convolutions = editor.of_type("Conv", "ConvTranspose")
    return sum(node.output[0] in known for node in convolutions)


def picture_shape(
    editor: GraphEditor, node: NodeProto, known: dict[str, Picture]
) -> Picture | None:
    """The shape of a node's output, if it is a feature map of a shape that follows."""
    if node.op_type == "Reshape":
        return reshaped(editor, node, known)
    sources = [known[name] for name in node.input if name in known]
    if not sources:
        return None
    if node.op_type in SAME_SHAPE:
        return broadcast(sources)
    if node.op_type == "Concat":
        channels = Axis(sum((s[1].factor for s in sources), Fraction(0)))
        return (sources[0][0], channels, *sources[0][2:])
    if node.op_type in ("Conv", "ConvTranspose"):
        return convolved(editor, node, sources[0])
    return None


def broadcast(sources: list[Picture]) -> Picture:
    """The shape of an element-wise result: where one map has a single channel, the other's."""
    return max(sources, key=lambda source: source[1].factor)


def convolved(editor: GraphEditor, node: NodeProto, source: Picture) -> Picture | None:
    """The shape after a convolution that keeps, divides or multiplies the size by its stride."""
    weight = editor.constant(node.input[1])
    if weight is None or attribute(node, "dilations", [1, 1]) != [1, 1]:
        return None
    stride = attribute(node, "strides", [1, 1])
    kernel = attribute(node, "kernel_shape", list(weight.shape[2:]))
    pads = attribute(node, "pads", [0, 0, 0, 0])
    if node.op_type == "ConvTranspose":
        if kernel != stride or any(pads) or attribute(node, "group", 1) != 1:
            return None
        factors, channels = [Fraction(s) for s in stride], weight.shape[1]
    else:
        # Whole strides fit: floor((n + pad - kernel) / stride) + 1 = n / stride.
        margins = [pads[i] + pads[i + 2] - kernel[i] for i in (0, 1)]
        if any(not -s <= m < 0 for s, m in zip(stride, margins, strict=True)):
            return None
        factors, channels = [Fraction(1, s) for s in stride], weight.shape[0]
    height, width = (
        Axis(axis.factor * factor, axis.name)
        for axis, factor in zip(source[2:], factors, strict=True)
    )
    return (source[0], Axis(Fraction(channels)), height, width)


def reshaped(editor: GraphEditor, node: NodeProto, known: dict[str, Picture]) -> Picture | None:
    """A picture again after a detour: shaped like another one, or to constant sizes."""
    like = editor.maker(node.input[1], "Shape")
    if like is not None and not like.attribute:
        return known.get(like.input[0])
    sizes = editor.constant(node.input[1])
    if sizes is None or sizes.size != 4 or sizes[0] not in (-1, 0) or (sizes[1:] < 1).any():
        return None
    batch = Axis(Fraction(1), next(iter(known.values()))[0].name)
    channels, height, width = (Axis(Fraction(int(size))) for size in sizes[1:])
    return (batch, channels, height, width)
