"""Attention as one operator again.

torch writes scaled dot-product attention out as two products and a softmax, with the scale split
between queries and keys; networks that write it themselves scale the logits. Requires: one of these
shapes, with heads on an axis of their own or one for each matrix of a stack, of any width, with a
bias, several or none; keys and values may have one head for all. Ensures: one `Attention` (operator
set 23) of proven rank for each, its known sizes equal, with the same inputs, the same scale and the
sum of the biases; no softmax of a product is left, or the pass fails and names the node. Knows ONNX
nodes; not networks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
import onnx
from onnx import NodeProto

from export.gpu_variant.matrix_einsums import restate_einsums
from export.passes.attention import fits_within, unscaled, with_keys_first
from export.passes.editor import GraphEditor, attribute
from export.passes.sizes import Axis

OPSET = 23
"""The first operator set with Attention. Between 21 and 23 no other operator that the exporter
emits changes its meaning: 22 and 23 add types."""
IR_VERSION = 11
PASSING = frozenset({"Add", "Div", "Mul", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Where"})
"""Operators between a product and its softmax."""
PRODUCTS = frozenset({"Einsum", "Gemm", "MatMul"})
RANKS = (3, 4)
"""Of a stack of matrices, and of heads."""


@dataclass(frozen=True, slots=True)
class Written:
    """One attention as found: `softmax(scale q @ k^T + bias) @ v`.

    Attributes:
        turned: keys with the width before their tokens.
        biases: what is added to the logits, the last first.
        guarded: whether what is no number becomes 0: rows whose keys are all masked.
        product: the node that makes the result.
    """

    query: str
    turned: str
    value: str
    biases: tuple[str, ...]
    scale: float
    guarded: bool
    product: NodeProto


def restore_attention(model: onnx.ModelProto) -> int:
    """Replace every written-out attention, in place.

    Returns:
        How many.

    Raises:
        ValueError: attention of another shape, or a softmax of a product that is none.
    """
    former = {name: at for at, node in enumerate(model.graph.node) for name in node.output}
    restate_einsums(model)
    editor = GraphEditor(model)
    found = [
        written(editor, product, softmax)
        for product in editor.of_type("MatMul")
        if (softmax := softmax_of(editor, product.input[0])) is not None
    ]
    for attention in found:
        whole(editor, attention)
    editor.finish()
    in_former_order(model, former)
    for entry in model.opset_import:
        if not entry.domain:
            entry.version = max(entry.version, OPSET)
    model.ir_version = max(model.ir_version, IR_VERSION)
    for name in softmaxes_of_products(model):
        raise ValueError(f"{name}: a softmax outside attention")
    return len(found)


def softmaxes_of_products(model: onnx.ModelProto) -> Iterator[str]:
    """Names of those whose logits are a product, as attention's are; others weight places."""
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type != "Softmax":
            continue
        maker = makers.get(node.input[0])
        while maker is not None and maker.op_type in PASSING:
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type in PRODUCTS:
            yield called(node)


def in_former_order(model: onnx.ModelProto, former: Mapping[str, int]) -> None:
    """Order nodes as they were, new ones behind what they read, in place.

    Weights that have lost their names are read out of the form by their order.

    Args:
        model: its nodes in any order in which each is behind those that it reads.
        former: the places of nodes before, by what they make.
    """
    places: dict[str, int] = {}
    for node in model.graph.node:
        read = max((places.get(name, -1) for name in node.input), default=-1)
        places |= {name: former.get(name, read) for name in node.output}
    ordered = sorted(model.graph.node, key=lambda node: places[node.output[0]])
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def softmax_of(editor: GraphEditor, name: str) -> NodeProto | None:
    """The softmax that makes a value; of masks that are true or false, torch writes a guard."""
    guard = editor.maker(name, "Where")
    if guard is None:
        return editor.maker(name, "Softmax")
    seen, zero = editor.maker(guard.input[0], "IsNaN"), editor.constant(guard.input[1])
    is_guard = seen is not None and seen.input[0] == guard.input[2]
    if not is_guard or zero is None or zero.any():
        return None
    return editor.maker(guard.input[2], "Softmax")


def written(editor: GraphEditor, product: NodeProto, softmax: NodeProto) -> Written:
    """The attention that a product of probabilities ends.

    Raises:
        ValueError: something of it is of another shape, or not proven.
    """
    biases: list[str] = []
    plain = str(softmax.input[0])
    while (biased := editor.maker(plain, "Add")) is not None:
        biases.append(str(biased.input[1]))
        plain = str(biased.input[0])
    scale, scaled = unscaled(editor, plain)
    logits = editor.maker(scaled, "MatMul")
    if logits is None:
        kind = maker.op_type if (maker := editor.maker(scaled)) else "an input or a weight"
        raise ValueError(f"{scaled}: expected to come from MatMul, it comes from {kind}")
    query_scale, query = unscaled(editor, logits.input[0])
    key_scale, turned = unscaled(editor, logits.input[1])
    attention = Written(
        query=query,
        turned=turned,
        value=product.input[1],
        biases=tuple(biases),
        scale=scale * query_scale * key_scale,
        guarded=product.input[0] != softmax.output[0],
        product=product,
    )
    rank = refuse_other_sizes(editor, attention)
    if attribute(softmax, "axis", -1) % rank != rank - 1:
        raise ValueError(f"{called(softmax)}: a softmax that is not over the keys")
    return attention


def called(node: NodeProto) -> str:
    """A node's name, or that of what it makes."""
    return str(node.name or node.output[0])


def refuse_other_sizes(editor: GraphEditor, attention: Written) -> int:
    """The number of axes of an attention that the operator computes as its products do.

    Raises:
        ValueError: products broadcast a side or a bias, which the operator does not.
    """
    name = called(attention.product)
    sides = (attention.query, attention.turned, attention.value)
    shapes = [editor.shape(side) or () for side in sides]
    rank = len(shapes[0])
    if rank not in RANKS or {len(shape) for shape in shapes} != {rank}:
        raise ValueError(
            f"{name}: queries, keys and values are not proven to have three axes or four"
        )
    if len(known(shape[0] for shape in shapes)) > 1:
        raise ValueError(f"{name}: queries and keys have different batches")
    if len(known(shape[-3] for shape in shapes)) > 1 and not sharing_heads(editor, attention):
        raise ValueError(f"{name}: queries and keys have different numbers of heads")
    if not (isfinite(attention.scale) and attention.scale > 0):
        # The operator gives each side the root of it.
        raise ValueError(f"{name}: logits are multiplied by {attention.scale}")
    if not all(fits_within(editor.shape(bias), shapes[0][:-1]) for bias in attention.biases):
        raise ValueError(f"{name}: a bias that is not proven to fit the logits")
    return rank


def sharing_heads(editor: GraphEditor, attention: Written) -> int:
    """How many heads of queries look at one head of keys and values; 0 where each has its own."""
    heads = [
        (editor.shape(side) or (None,) * 3)[-3]
        for side in (attention.query, attention.turned, attention.value)
    ]
    if len(editor.shape(attention.query) or ()) == RANKS[0] or heads[1:] != [1, 1]:
        return 0
    return heads[0] if isinstance(heads[0], int) and heads[0] > 1 else 0


def known(sizes: Iterable[Axis]) -> set[Axis]:
    """Different sizes, without those of which nothing is known: rotated queries have such ones."""
    return {size for size in sizes if isinstance(size, int) or size.label is not None}


def whole(editor: GraphEditor, attention: Written) -> None:
    """Put the operator in the place of one attention."""
    sides = [attention.query, keys_first(editor, attention.turned), attention.value]
    biases = list(attention.biases)
    shape = editor.shape(attention.query) or ()
    stacked = len(shape) == RANKS[0]
    shared = sharing_heads(editor, attention)
    if shared:
        repeats = editor.integers(1, shared, 1, 1)
        sides[1:] = [editor.add("Expand", [side, repeats]) for side in sides[1:]]
    if stacked:
        # A stack of matrices is a batch of one head each; a bias with as many axes stacks alike.
        sides = [with_one_head(editor, side) for side in sides]
        biases = [
            with_one_head(editor, name) if len(editor.shape(name) or ()) == RANKS[0] else name
            for name in biases
        ]
    bias = summed(editor, biases)
    name, scale = attention.product.name, attention.scale
    result = editor.add("Attention", [*sides, *bias], name=name, scale=scale)
    if attention.guarded and bias:
        result = without_hidden_rows(editor, result, *bias)
    if stacked:
        result = editor.add("Squeeze", [result, editor.integers(1)])
    editor.replace(str(attention.product.output[0]), result)


def summed(editor: GraphEditor, biases: list[str]) -> list[str]:
    """One bias of all, the last of them first; or none."""
    if not biases:
        return []
    *later, total = biases
    for bias in reversed(later):
        total = editor.add("Add", [total, bias])
    return [total]


def without_hidden_rows(editor: GraphEditor, result: str, bias: str) -> str:
    """0 in rows whose keys all have a bias of minus infinity; what else is no number stays so."""
    highest = editor.add("ReduceMax", [bias, editor.integers(-1)], keepdims=1)
    hidden = editor.add("IsInf", [highest], detect_positive=0)
    zero = editor.add_constant(np.zeros(1, np.float32), "zero")
    return editor.add("Where", [hidden, zero, result])


def with_one_head(editor: GraphEditor, name: str) -> str:
    """`[B, N, D]` as `[B, 1, N, D]`."""
    return editor.add("Unsqueeze", [name, editor.integers(1)])


def keys_first(editor: GraphEditor, turned: str) -> str:
    """Keys `[.., D, L]` as `[.., L, D]`; where they are proven to be turned ones, the others."""
    before = with_keys_first(editor, turned)
    if before:
        return before
    perm = list(range(len(editor.shape(turned) or ())))
    perm[-2:] = perm[:-3:-1]
    last = editor.maker(turned, "Transpose")
    if last is None or not attribute(last, "perm"):
        return editor.add("Transpose", [turned], perm=perm)
    both = [attribute(last, "perm")[axis] for axis in perm]
    if both == sorted(both):
        return str(last.input[0])
    return editor.add("Transpose", [str(last.input[0])], perm=both)
