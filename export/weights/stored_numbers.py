"""The numbers of a graph before and after it was stored, compared: storage takes nothing away.

Knows graphs as `exact_storage` writes them; reads the file and not what wrote it.
"""

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from cascade.errors import ParityError
from cascade.types import Array
from export.weights.graph_constants import Constants


def check_stored(name: str, before: onnx.ModelProto, stored: bytes) -> int:
    """Refuse a file that widens any weight to other numbers than the graph's.

    Args:
        name: of the graph, for the error.
        before: its weights are float32 initialisers.
        stored: the file, its weights in smaller formats.

    Returns:
        How many numbers were compared: every one of every initialiser.

    Raises:
        ParityError: naming the weight. Zeros of either sign are one number.
    """
    after = onnx.load_from_string(stored)
    constants = Constants(after)
    makers = {out: node for node in after.graph.node for out in node.output}
    looked_up = {n.input[0]: n.output[0] for n in before.graph.node if n.op_type == "Gather"}
    compared = 0
    for tensor in before.graph.initializer:
        wanted = numpy_helper.to_array(tensor)
        try:
            found = constants.value(tensor.name)
        except KeyError:
            # Its rows are widened after they were looked up: here all of them are.
            found = widened_table(constants, makers, looked_up[tensor.name])
        if found.dtype != wanted.dtype or not np.array_equal(found, wanted):
            raise ParityError(
                f"{name}: {tensor.name} is not stored without loss: exact arithmetic needs the "
                "very numbers of the network",
                field=name,
            )
        compared += wanted.size
    return compared


def widened_table(constants: Constants, makers: dict[str, NodeProto], rows: str) -> Array:
    """A table of eight bits as float32 `[rows, width]`, by the name of the rows looked up in it."""
    wide, scale = (makers[name] for name in makers[rows].input)
    levels = makers[wide.input[0]]
    table: Array = constants.value(levels.input[0]).astype(np.float32)
    return np.asarray(table * constants.value(scale.input[0]))
