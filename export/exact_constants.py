"""Constants that are nearly 0 or nearly 1, kept as they are while torch optimizes a graph.

The optimizer behind torch's exporter (onnxscript 0.7.2) takes a number within 1e-8 of 0 for 0, and
one within 1e-5 of 1 for 1. It drops the guard of `x / (y + 1e-15)`: the graph divides 0 by 0 where
its network does not. Requires: a graph before it is optimized. Ensures: such a constant is an input
while that runs, of which nothing is known, and a constant again behind it. Knows torch's graphs as
values; not operators.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import onnx_ir as ir
import torch

NEAR = (0.0, 1.0)
"""What the optimizer's rules look for: sums and products that change nothing."""
TOLERANCES = {"rel_tol": 1e-5, "abs_tol": 1e-8}


@contextmanager
def constants_kept() -> Iterator[None]:
    """Inside the block torch's exporter optimizes a graph with all constants as they were.

    It does so before it names the graph's inputs, and the order of nodes follows from that: hence
    its own method, and no second run behind it.
    """
    optimize = torch.onnx.ONNXProgram.optimize

    def exactly(program: torch.onnx.ONNXProgram) -> None:
        hidden = hide(program.model.graph)
        optimize(program)
        show(program.model.graph, hidden)

    with patch.object(torch.onnx.ONNXProgram, "optimize", exactly):
        yield


def hide(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Make inputs of the constants that are nearly 0 or 1; the constants by their names."""
    hidden: dict[str, ir.TensorProtocol] = {}
    for value, constant in list(near_constants(graph)):
        name = str(value.name)
        graph.initializers.pop(name, None)
        value.name = f"{name}_before"
        unknown = ir.Input(name, ir.Shape([]), ir.TensorType(constant.dtype))
        ir.convenience.replace_all_uses_with(value, unknown, replace_graph_outputs=True)
        graph.inputs.append(unknown)
        hidden[name] = constant
    return hidden


def show(graph: ir.Graph, hidden: Mapping[str, ir.TensorProtocol]) -> None:
    """Make constants again of what was hidden."""
    for value in [value for value in graph.inputs if value.name in hidden]:
        graph.inputs.remove(value)
        value.const_value = hidden[str(value.name)]
        graph.register_initializer(value)


def near_constants(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Floats without axes that are nearly a number of `NEAR` and are none."""
    made = [output for node in graph if node.op_type == "Constant" for output in node.outputs]
    for value in (*made, *graph.initializers.values()):
        constant = ir.convenience.get_const_tensor(value)
        if constant is not None and not constant.shape and constant.dtype.is_floating_point():
            number = float(constant.numpy().item())
            if any(number != near and math.isclose(number, near, **TOLERANCES) for near in NEAR):
                yield value, constant
