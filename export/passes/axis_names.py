"""Names for the axes of feature maps, so that ONNX Runtime can see which maps have one shape.

Its blocked layout adds a residual inside the convolution before it only where both shapes are known
to be equal; behind reshapes, strides and free axes they are not, and a plain export gets no such
sum at all. Ensures: an entry of `value_info` for every feature map whose four axes are proven
(`export.passes.shapes`), `[batch, C, H, W]` with sizes where they are known and names like
`height/8` where they are not; none for any other. No node is touched. Does not know how heights are
checked: that is the runtime's.
"""

import onnx
from onnx import TensorProto, helper

from export.passes.editor import GraphEditor
from export.passes.sizes import Size

CONVOLUTIONS = ("Conv", "ConvTranspose")
MAPS = (
    *CONVOLUTIONS,
    *("Mul", "Add", "Sub", "QuickGelu", "Sigmoid", "BatchNormalization", "Concat", "Reshape"),
)
"""What a residual's two sides are made by; the shapes of others are of no use to the layout."""

ONE_POSITION = [1, 1]
"""Height and width of what is no map: factors per sample and channel."""


def name_feature_axes(model: onnx.ModelProto) -> int:
    """Write down the shape of every feature map.

    Returns:
        How many convolutions have an output of known shape.
    """
    editor = GraphEditor(model)
    outside = {info.name for info in (*model.graph.input, *model.graph.output)}
    infos = []
    convolutions = 0
    for node in editor.of_type(*MAPS):
        labels = axis_labels(editor, node.output[0])
        if labels is None or not editor.is_float(node.output[0]):
            continue
        convolutions += node.op_type in CONVOLUTIONS
        if node.output[0] not in outside:
            infos.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, labels))
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
    return convolutions


def axis_labels(editor: GraphEditor, name: str) -> list[int | str] | None:
    """The four axes of a feature map as `value_info` has them; None if one is not proven.

    Nor is a value of one position a map: it is a factor; nor one whose channels are free.
    """
    shape = editor.shape(name)
    if shape is None or len(shape) != 4:
        return None
    labels = [axis.label if isinstance(axis, Size) else axis for axis in shape]
    known = [label for label in labels if label is not None]
    if len(known) != 4 or not isinstance(known[1], int) or known[2:] == ONE_POSITION:
        return None
    return known
