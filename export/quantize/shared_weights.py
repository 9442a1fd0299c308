"""An int8 file without the weights that its float32 file holds too: the same integers, stored once.

Requires: both graphs come from the same released weights, so that their int8 constants are equal.
Ensures: `shared_initializers.attach_initializers` completes the file to the graph it was.
"""

import onnx

SMALL_BYTES = 256
"""Smaller constants stay: a name in another file would weigh as much."""


def strip_initializers(model: onnx.ModelProto, stored: onnx.ModelProto) -> int:
    """Take every large constant that the stored graph holds too out of a graph, in place.

    Args:
        model: the int8 graph; its constants are renamed to the stored graph's names.
        stored: the float32 graph as it lies in the bundle.

    Returns:
        Bytes left out.
    """
    held = {content(tensor): tensor.name for tensor in stored.graph.initializer}
    taken = {name for node in model.graph.node for name in node.output}
    taken |= {info.name for info in model.graph.input}
    taken |= {tensor.name for tensor in model.graph.initializer}
    names: dict[str, str] = {}
    kept = []
    saved = 0
    for tensor in model.graph.initializer:
        name = held.get(content(tensor), "")
        large = len(tensor.raw_data) >= SMALL_BYTES
        if large and name and (name == tensor.name or name not in taken):
            names[tensor.name] = name
            saved += len(tensor.raw_data)
        else:
            kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    return saved


def content(tensor: onnx.TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    """What makes two constants the same: type, shape and numbers."""
    return tensor.data_type, tuple(tensor.dims), tensor.raw_data
