"""Products of a graph by constant matrices, as `MatMulNBits` of ONNX Runtime.

Ensures: every other node stays; a matrix that several products read is stored once. Requires:
float32 matrices. Knows ONNX graphs; not where their weights lie.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
from onnx import NodeProto, helper

from export.blocks.block_weight import BlockForm
from export.fresh_names import FreshNames
from export.quantize.layers import find_layers

DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
DOMAIN_VERSION = 1
KINDS = ("MatMul", "Gemm")
LEAST_VALUES = 1 << 12
"""Of a matrix: of smaller ones the levels with their scales save nothing that is felt."""
ACCURACY = {4: 0, 8: 4}
"""What ONNX Runtime multiplies in. Levels of 4 bits by floats: any engine answers the same but for
rounding. By floats those of 8 bits are unpacked anew in every run, which takes 7 times longer: by
activations in 8 bits, then, with a scale per block and row."""


@dataclass(frozen=True, slots=True)
class Product:
    """A node that multiplies by a constant matrix.

    Attributes:
        output: of the node, which names it.
        weight: name of the matrix.
        turned: whether the node reads its transpose.
        inner: how many numbers a sum has.
        outputs: how many sums a row has.
        bias: name of what is added; empty for nothing.
    """

    output: str
    weight: str
    turned: bool
    inner: int
    outputs: int
    bias: str

    @property
    def matrix(self) -> tuple[str, bool]:
        """What is quantised: products that share it share its levels."""
        return self.weight, self.turned


@dataclass(frozen=True, slots=True)
class BlockNames:
    """Names of a quantised matrix's tensors; `zeros` is empty where none is stored."""

    levels: str
    scales: str
    zeros: str = ""


def find_products(model: onnx.ModelProto) -> list[Product]:
    """Every such node whose matrix is worth it, in order; looks at shapes alone."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for layer in find_layers(model):
        shape = dims[layer.weight]
        if layer.kind not in KINDS or shape[0] * shape[1] < LEAST_VALUES:
            continue
        turned = layer.channel_axis == 0
        inner, outputs = reversed(shape) if turned else shape
        found.append(Product(layer.name, layer.weight, turned, inner, outputs, layer.bias or ""))
    return found


def replace_products(
    model: onnx.ModelProto,
    products: Sequence[Product],
    form: BlockForm,
    add: Callable[[Product], BlockNames],
) -> None:
    """Put `MatMulNBits` in the place of products, in place; drops what nothing reads any more.

    Args:
        model: the graph.
        products: of it.
        form: of all.
        add: puts a product's quantised matrix into the graph, and says under which names; called
            once per matrix.
    """
    names = FreshNames(model)
    chosen = {product.output: product for product in products}
    stored: dict[tuple[str, bool], BlockNames] = {}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        product = chosen.get(node.output[0])
        if product is None:
            nodes.append(node)
            continue
        if product.matrix not in stored:
            stored[product.matrix] = add(product)
        nodes += block_nodes(node, product, form, stored[product.matrix], names)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unread(model)
    if all(used.domain != DOMAIN for used in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))


def block_nodes(
    node: NodeProto, product: Product, form: BlockForm, blocks: BlockNames, names: FreshNames
) -> list[NodeProto]:
    """One product by a quantised matrix, and what is added to it."""
    inputs = [node.input[0], blocks.levels, blocks.scales, blocks.zeros]
    result = names.fresh(f"{product.output}_product") if product.bias else product.output
    made = helper.make_node(
        OPERATOR, inputs if blocks.zeros else inputs[:3], [result], domain=DOMAIN,
        K=product.inner, N=product.outputs, bits=form.bits, block_size=form.size,
        accuracy_level=ACCURACY[form.bits],
    )  # fmt: skip
    if not product.bias:
        return [made]
    return [made, helper.make_node("Add", [result, product.bias], [product.output])]


def drop_unread(model: onnx.ModelProto) -> None:
    """Take nodes and weights out whose results nothing reads, in place."""
    graph = model.graph
    wanted = {info.name for info in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.isdisjoint(node.output):
            continue
        kept.append(node)
        wanted.update(node.input, inner_names(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def inner_names(node: NodeProto) -> set[str]:
    """What the bodies of a loop or a branch read, names of their own among it."""
    bodies = [a.g for a in node.attribute if a.HasField("g")]
    bodies += [body for a in node.attribute for body in a.graphs]
    inner = [node for body in bodies for node in body.node]
    return {name for node in inner for name in (*node.input, *inner_names(node))}


def share_of_products(model: onnx.ModelProto, products: Sequence[Product]) -> float:
    """Share of a graph's weights, counted in values, that products read."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    read = {product.weight for product in products}
    return sum(sizes[name] for name in read) / max(1, sum(sizes.values()))
