"""A float32 graph with its constant matrices in blocks: another file, the other weights exact."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from cascade.precision import Precision
from cascade.types import Array
from export.blocks.block_weight import BlockForm, BlockWeight, packed, quantize
from export.blocks.products import (
    BlockNames,
    Product,
    find_products,
    replace_products,
    share_of_products,
)
from export.fresh_names import FreshNames
from export.quantize.layers import array, constants
from export.weights.exact_storage import store_exactly

FORMS: Mapping[Precision, BlockForm] = {
    Precision.INT8_BLOCK: BlockForm(8),
    Precision.INT4_BLOCK: BlockForm(4),
}
"""How the matrices of a precision are quantised. Blocks of 32 with zeros of their own: with 4 bits
the error of a chain of products is a fifth less than with symmetric ones, and with blocks of 64 a
seventh more, for 0.6 bits less a weight."""

LEAST_SHARE = 0.25
"""Of a graph's weights in matrices; a network of convolutions gains nothing by blocks."""


@dataclass(frozen=True, slots=True)
class BlockGraph:
    """A graph with its matrices in blocks.

    Attributes:
        data: an ONNX file with all its weights.
        products: how many compute in blocks.
    """

    data: bytes
    products: int


def block_products(model: onnx.ModelProto) -> list[Product]:
    """The products of a graph that go into blocks; none where they hold little of its weights."""
    products = find_products(model)
    return products if share_of_products(model, products) >= LEAST_SHARE else []


def make_block_graph(model: onnx.ModelProto, form: BlockForm) -> BlockGraph | None:
    """A float32 graph with all weights in it, which stays as it is, with its matrices in blocks.

    Returns:
        None where matrices hold too little of its weights.
    """
    products = block_products(model)
    if not products:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights, names = constants(copy), FreshNames(copy)

    def add(product: Product) -> BlockNames:
        value = array(weights[product.weight])
        blocks = quantize(value.T if product.turned else value, form)
        named = names_of(product, form, names)
        for name, part in tensors_of(blocks, form, named).items():
            copy.graph.initializer.append(numpy_helper.from_array(part, name))
        return named

    replace_products(copy, products, form, add)
    store_exactly(copy)
    return BlockGraph(copy.SerializeToString(), len(products))


def names_of(product: Product, form: BlockForm, names: FreshNames) -> BlockNames:
    """Names for a quantised matrix, which no value of the graph has."""
    ends = ["blocks", "scales"] + ["zeros"] * (form.zeros == "asymmetric")
    begin = f"{product.weight}{'_t' * product.turned}_{form.bits}bit"
    return BlockNames(*(names.fresh(f"{begin}_{end}") for end in ends))


def tensors_of(blocks: BlockWeight, form: BlockForm, names: BlockNames) -> dict[str, Array]:
    """A quantised matrix as `MatMulNBits` wants it, by name.

    Returns:
        Levels `[outputs, blocks, bytes]` uint8, scales `[outputs * blocks]` float32 and zeros
        `[outputs * bytes]` uint8.
    """
    found: dict[str, Array] = {
        names.levels: packed(blocks.levels, form.bits),
        names.scales: blocks.scales.reshape(-1),
    }
    if names.zeros:
        found[names.zeros] = packed(blocks.zeros, form.bits).reshape(-1)
    return found
