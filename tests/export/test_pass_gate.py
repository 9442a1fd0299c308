"""The gate: a pass that spoils a graph is undone and named; one that does not is kept."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.passes import gate, pipeline
from export.passes.editor import GraphEditor
from export.passes.gate import FAR, Gate, labelled, logits_bytes
from export.passes.pipeline import UNDONE, optimize
from tests.export.attention_graphs import HEADS, KEYS, N, unmasked
from tests.export.pass_graphs import Recipe, kinds, random_inputs, run

SIZES = {"batch": 2, "height": 32, "width": 32}


def block() -> onnx.ModelProto:
    """A convolution, a norm, a swish, a convolution, on pictures of any size."""
    r = Recipe()
    x = r.input("x", ["batch", 8, "height", "width"])
    h = r.swish(r.group_norm(r.convolve(x, (8, 8)), 8, 4))
    return r.model(r.convolve(h, (8, 8)))


def doubles(model: onnx.ModelProto) -> int:
    """A pass that multiplies the last convolution's bias by two."""
    editor = GraphEditor(model)
    last = list(editor.of_type("Conv"))[-1]
    bias = editor.constant(last.input[2])
    assert bias is not None
    last.input[2] = editor.add_constant(bias * np.float32(2), "twice")
    editor.finish()
    return 1


def declares(*labels: int | str) -> Callable[[onnx.ModelProto], int]:
    """A pass that declares a shape for the first convolution's output."""

    def declare(model: onnx.ModelProto) -> int:
        first = next(node for node in model.graph.node if node.op_type == "Conv")
        kept = [info for info in model.graph.value_info if info.name != first.output[0]]
        kept.append(helper.make_tensor_value_info(first.output[0], TensorProto.FLOAT, labels))
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)
        return 1

    return declare


def cuts_off(model: onnx.ModelProto) -> int:
    """A pass after which nothing makes what a node reads."""
    del model.graph.node[0]
    return 1


def fails_in_the_run(model: onnx.ModelProto) -> int:
    """A pass after which the graph loads, and cannot reshape what it computes."""
    editor = GraphEditor(model)
    last = list(editor.of_type("Conv"))[-1]
    editor.replace(last.output[0], editor.add("Reshape", [last.output[0], editor.integers(7, 5)]))
    editor.finish()
    return 1


def is_not_finite(model: onnx.ModelProto) -> int:
    """A pass that divides by zero."""
    editor = GraphEditor(model)
    last = list(editor.of_type("Conv"))[-1]
    zero = editor.add_constant(np.zeros(1, np.float32), "zero")
    nought = editor.add("Div", [editor.add("Mul", [last.output[0], zero]), zero])
    editor.replace(last.output[0], nought)
    editor.finish()
    return 1


def raises(_model: onnx.ModelProto) -> int:
    """A pass that meets what it did not expect."""
    raise StopIteration


SPOILS = {
    "wrong_numbers": (doubles, "standard deviations off"),
    "wrong_channels": (declares("batch", 9, "height", "width"), "."),
    "wrong_batch": (declares(1, 8, "height", "width"), "."),
    "wrong_width": (declares("batch", 8, "height", "width/2"), "is declared .* and was"),
    "wrong_rank": (declares("batch", 8, "height"), "."),
    "unknown_axis": (declares("batch", 8, "height", "length"), "is declared .* and was"),
    "does_not_load": (cuts_off, "."),
    "fails_in_the_run": (fails_in_the_run, "."),
    "not_finite": (is_not_finite, "inf standard deviations off"),
    "raises": (raises, "StopIteration"),
}


# Some false shapes ONNX Runtime refuses by itself, in words of its own.
@pytest.mark.parametrize("name", SPOILS)
def test_a_pass_that_spoils_the_graph_is_undone_and_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other passes stay, the answers are right, the record and the report name the pass."""
    spoil, words = SPOILS[name]
    monkeypatch.setattr(pipeline, "PASSES", {**pipeline.PASSES, "spoils": spoil})
    plain, model, lines = block(), block(), list[str]()
    counts = optimize(model, lines.append)
    assert (counts["spoils"], counts["spoils" + UNDONE]) == (0, 1)
    assert (counts["swish"], counts["group_norm"]) == (1, 1)
    assert [key for key in counts if key.endswith(UNDONE)] == ["spoils" + UNDONE]
    assert len(lines) == 1
    assert lines[0].startswith("graph pass spoils undone for this network: ")
    assert re.search(words, lines[0].partition(": ")[2])
    inputs = random_inputs(plain, **SIZES)
    np.testing.assert_allclose(run(model, inputs)[0], run(plain, inputs)[0], atol=1e-4)


def test_passes_that_keep_the_graph_are_kept_silently() -> None:
    """No line, no second entry."""
    lines: list[str] = []
    counts = optimize(block(), lines.append)
    assert lines == []
    assert set(counts) == set(pipeline.PASSES)


def test_true_declarations_pass() -> None:
    """Numbers, names and fractions of names that hold in both runs."""
    model = block()
    declares("batch", 8, "height", "width")(model)
    assert Gate(block()).problem(model) is None


@pytest.mark.parametrize(
    ("label", "size"),
    [("batch", 3), ("height/8", 8), ("height*3/2", 96), ("width*2", 64), ("length", None)],
)
def test_labels_are_read_as_they_are_written(label: str, size: int | None) -> None:
    """A name, times a number, over a number."""
    assert labelled(label, {"batch": 3, "height": 64, "width": 32}) == size


def test_a_graph_that_cannot_be_run_declares_nothing() -> None:
    """Where no made-up input suits the network, what is declared is not known to be true."""
    r = Recipe()
    x = r.input("x", ["batch", 8, "height", "width"])
    fixed = r.op("Reshape", x, r.ints(7, 8, 3, 3))
    plain: Any = r.model(r.convolve(fixed, (8, 8)))
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    declares(7, 8, 3, 3)(model)
    assert Gate(plain).problem(plain) is None
    assert "not known to be true" in str(Gate(plain).problem(model))


def test_large_logits_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a size the plain graph runs with its attention in blocks, and judges as before."""
    plain = unmasked("Mul", 0.25)
    sizes = [{"b": rows} for rows in (1, 2)]
    one = 4 * HEADS * N * KEYS
    assert [logits_bytes(plain, each) for each in sizes] == [one, 2 * one]
    monkeypatch.setattr(gate, "MOST_LOGITS", 2 * one)
    assert gate.in_little_memory(plain, sizes) is plain
    monkeypatch.setattr(gate, "MOST_LOGITS", one)
    blocked = gate.in_little_memory(plain, sizes)
    assert ("Softmax" in kinds(plain), "Softmax" in kinds(blocked)) == (True, False)
    assert Gate(plain).problem(plain) is None
    assert "standard deviations off" in str(Gate(plain).problem(unmasked("Mul", 4.0)))


def test_rounding_is_no_difference() -> None:
    """The bound lies far above float32's rounding and below anything that matters."""
    assert 1e-3 < FAR < 0.5
