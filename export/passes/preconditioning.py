"""The prediction of a gated super-resolution network from what the network saw of the noisy image.

Requires: `seen = (x_t - a low) b` and `k x_t + l low + s (out + gate seen)`, in any order of the
operands, with one number per sample for each of a, b, k, l and s, and b a reciprocal: that is not
0, where any other number may be. Ensures: `(s gate + k / b) seen +
s out + (l + k a) low`: x_t is put together again from what was seen and the enlarged image, so it
is read once, and two passes over a picture of full size become passes over the gate's single
channel. The same sum in another order. Does not know what the factors mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor
from export.passes.sample_factors import picture_and_factor


@dataclass(frozen=True, slots=True)
class PreconditioningMatch:
    """The parts as found: values of pictures, and of factors `[B, 1, 1, 1]`."""

    seen: str
    low: str
    out: str
    gate: str
    low_in_seen: str
    c_in: str
    from_x_t: str
    from_low: str
    from_network: str


def join_preconditioning(model: onnx.ModelProto) -> int:
    """Rewrite every prediction of this form.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    count = 0
    for info in list(model.graph.output):
        path = find_path(editor, info.name)
        if path is not None:
            editor.replace(info.name, rewrite(editor, path))
            count += 1
    editor.finish()
    return count


def find_path(editor: GraphEditor, prediction: str) -> PreconditioningMatch | None:
    """The parts behind an output, if it is such a prediction."""
    for straight, scaled in operands(editor.maker(prediction, "Add")):
        total, from_network = weighted(editor, scaled)
        known = dict(weighted(editor, n) for n in sum_of(editor, straight))
        for out, gated in operands(editor.maker(total, "Add")):
            for gate, seen in operands(editor.maker(gated, "Mul")):
                difference, c_in = weighted(editor, seen)
                x_t, clean = sum_of(editor, difference, "Sub") or ("", "")
                low, low_in_seen = weighted(editor, clean)
                if low and known.keys() == {x_t, low} and never_zero(editor, c_in):
                    return PreconditioningMatch(
                        seen=seen,
                        low=low,
                        out=out,
                        gate=gate,
                        low_in_seen=low_in_seen,
                        c_in=c_in,
                        from_x_t=known[x_t],
                        from_low=known[low],
                        from_network=from_network,
                    )
    return None


def rewrite(editor: GraphEditor, path: PreconditioningMatch) -> str:
    """The prediction anew; its name."""
    weight_of_seen = editor.add("Div", [path.from_x_t, path.c_in])
    through_low = editor.add("Mul", [path.from_x_t, path.low_in_seen])
    weight_of_low = editor.add("Add", [path.from_low, through_low])
    gate = editor.add("Mul", [path.gate, path.from_network])
    gate = editor.add("Add", [gate, weight_of_seen])
    out = editor.add("Mul", [path.out, path.from_network])
    clean = editor.add("Mul", [path.low, weight_of_low])
    rest = editor.add("Add", [out, clean])
    return editor.add("Add", [editor.add("Mul", [gate, path.seen]), rest])


def never_zero(editor: GraphEditor, name: str) -> bool:
    """Whether a factor is one over something.

    (An exponential, a sigmoid or a product is not enough: float32 rounds small ones to 0.)
    """
    return editor.maker(name, "Reciprocal") is not None


def operands(node: NodeProto | None) -> Iterator[tuple[str, str]]:
    """The two inputs of a node in both orders; nothing where there is no node."""
    if node is not None and len(node.input) == 2:
        yield node.input[0], node.input[1]
        yield node.input[1], node.input[0]


def sum_of(editor: GraphEditor, name: str, kind: str = "Add") -> tuple[str, ...]:
    """What a value is the sum (or difference) of; nothing if it is none."""
    node = editor.maker(name, kind)
    return () if node is None else tuple(node.input)


def weighted(editor: GraphEditor, name: str) -> tuple[str, str]:
    """A picture and the factor per sample that it is multiplied with; empty if it is not."""
    product = editor.maker(name, "Mul")
    return ("", "") if product is None else picture_and_factor(editor, product)
