"""Group norms of one group as layer norms of whole maps.

TensorRT's parser makes of GroupNormalization a normalisation over height and width of so many
groups, and to the library one group means none: every channel by itself. Requires: norms whose
input has a known number of axes. Ensures: the same mean, variance, gain and offset, as
LayerNormalization from the channels on, of which the parser makes one layer as well. Knows ONNX
nodes; not networks.
"""

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from export.fresh_names import FreshNames
from export.passes.editor import GraphEditor, attribute


def restate_single_groups(model: onnx.ModelProto) -> int:
    """Rewrite every group norm of one group, in place.

    Returns:
        How many there were.

    Raises:
        ValueError: the number of axes of one's input is not known.
    """
    editor, names = GraphEditor(model), FreshNames(model)
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type == "GroupNormalization" and attribute(node, "num_groups") == 1:
            shape = editor.shape(node.input[0])
            if shape is None:
                raise ValueError(f"{node.name}: the axes of {node.input[0]} are not known")
            weights = [
                with_axes(editor, nodes, names, name, len(shape) - 2) for name in node.input[1:]
            ]
            nodes.append(layer_norm(node, weights))
            count += 1
        else:
            nodes.append(node)
    if count:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return count


def layer_norm(norm: NodeProto, weights: list[str]) -> NodeProto:
    """The same over channels, height and width together."""
    return helper.make_node(
        "LayerNormalization",
        [norm.input[0], *weights],
        list(norm.output),
        name=norm.name,
        axis=1,
        epsilon=attribute(norm, "epsilon", 1e-5),
    )


def with_axes(
    editor: GraphEditor, nodes: list[NodeProto], names: FreshNames, name: str, axes: int
) -> str:
    """A vector `[C]` as `[C, 1, 1]`, by a node: the weight stays what other files may share."""
    shape = np.array([-1, *[1] * axes], np.int64)
    target = numpy_helper.from_array(shape, names.fresh(f"{name}_shape"))
    editor.graph.initializer.append(target)
    result = names.fresh(f"{name}_of_map")
    nodes.append(helper.make_node("Reshape", [name, target.name], [result]))
    return result
