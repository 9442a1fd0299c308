"""Which weights an engine reads where they lie: those of products and look-ups alone."""

from collections.abc import Sequence

import pytest
from onnx import NodeProto, TensorProto, helper

from cascade.weights.readers import readable_in_place


def graph(nodes: Sequence[NodeProto]) -> bytes:
    """An ONNX file of some nodes; nothing else of it is looked at."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    return bytes(helper.make_model(helper.make_graph(nodes, "g", [info], [])).SerializeToString())


def branch(read: str) -> NodeProto:
    """A node that reads a value inside a branch."""
    inner = helper.make_graph([helper.make_node("MatMul", ["x", read], ["z"])], "then", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w"}),
        ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w", "b"}),
        ([helper.make_node("Gather", ["w", "x"], ["y"])], {"w"}),
        ([helper.make_node("Conv", ["x", "w"], ["y"])], set()),
        ([helper.make_node("Transpose", ["w"], ["y"])], set()),
        (
            [
                helper.make_node("MatMul", ["x", "w"], ["y"]),
                helper.make_node("Transpose", ["w"], ["z"]),
            ],
            set(),
        ),
        ([branch("w")], set()),
        (
            [
                helper.make_node("MatMulNBits", ["x", "w", "b"], ["y"], domain="com.microsoft"),
                helper.make_node("MatMul", ["x", "other"], ["y"]),
                helper.make_node("Gather", ["table", "x"], ["z"]),
            ],
            {"table"},
        ),
    ],
    ids=["product", "gemm", "look-up", "convolution", "turned", "both", "branch", "blocks"],
)
def test_products_and_look_ups_read_in_place(nodes: list[NodeProto], expected: set[str]) -> None:
    """Everything else is laid out anew or folded; blocks are packed, and floats beside them too."""
    read = {name for node in nodes for name in node.input}
    names = (read | {"w"}) - {"x"}
    assert readable_in_place(graph(nodes), names) == expected
