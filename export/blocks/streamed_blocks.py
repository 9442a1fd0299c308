"""Graphs with their matrices in blocks for a network whose weights never enter a graph.

What `export.blocks.graph` makes of weights that are there, this drafts: the levels of a matrix are
made when their turn in the file comes, and let go.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from cascade.precision import Precision
from cascade.types import Array
from export.blocks.block_weight import BlockForm, quantize
from export.blocks.graph import FORMS, block_products, names_of, tensors_of
from export.blocks.products import BlockNames, Product, replace_products
from export.fresh_names import FreshNames
from export.weights.weights_file import NewTensor


@dataclass(frozen=True, slots=True)
class BlockDraft:
    """A graph whose tensors are still to be written.

    Attributes:
        model: the graph, which names them.
        tensors: in the order of the file.
        products: how many compute in blocks.
    """

    model: onnx.ModelProto
    tensors: list[NewTensor]
    products: int


class MatrixBlocks:
    """One matrix's tensors: quantised once for all of them, then forgotten."""

    def __init__(self, value: Callable[[], Array], form: BlockForm, names: BlockNames) -> None:
        self._value, self._form, self._names = value, form, names
        self._made: dict[str, Array] = {}

    def take(self, name: str) -> Array:
        """One of the tensors, once; shapes as of `tensors_of`."""
        if not self._made:
            self._made = tensors_of(quantize(self._value(), self._form), self._form, self._names)
        return self._made.pop(name)


def draft_blocks(
    before: onnx.ModelProto,
    model: onnx.ModelProto,
    value_of: Callable[[str], Array],
    precisions: Collection[Precision],
) -> dict[Precision, BlockDraft]:
    """A draft per precision in blocks; none where matrices hold too little of the weights.

    Args:
        before: the graph with every weight as the initialiser of float32 that products read.
        model: the same with some of them widened from half precision; stays as it is.
        value_of: gives a weight of `before` by its name, float32 of the shape that stands there.
        precisions: those asked for; others than in blocks are passed over.
    """
    products = block_products(before)
    found = {}
    for precision in (p for p in FORMS if p in precisions and products):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        tensors: list[NewTensor] = []
        adder = Adder(copy, FORMS[precision], value_of, tensors)
        replace_products(copy, products, FORMS[precision], adder.add)
        found[precision] = BlockDraft(copy, tensors, len(products))
    return found


class Adder:
    """Puts quantised matrices into a graph as tensors that lie elsewhere."""

    def __init__(
        self,
        model: onnx.ModelProto,
        form: BlockForm,
        value_of: Callable[[str], Array],
        tensors: list[NewTensor],
    ) -> None:
        self._model, self._form, self._value_of, self._tensors = model, form, value_of, tensors
        self._names = FreshNames(model)

    def add(self, product: Product) -> BlockNames:
        """One matrix; see `replace_products`."""
        names = names_of(product, self._form, self._names)
        value_of, weight, turned = self._value_of, product.weight, product.turned
        matrix = MatrixBlocks(
            lambda: value_of(weight).T if turned else value_of(weight), self._form, names
        )
        for name, (dtype, shape) in block_shapes(product, self._form, names).items():
            # A name of its own per turn of the loop.
            self._tensors.append(NewTensor(name, dtype, shape, lambda n=name: matrix.take(n)))  # type: ignore[misc]
            tensor = self._model.graph.initializer.add(name=name)
            tensor.data_type = ONNX_NUMBERS[dtype]
            tensor.dims.extend(shape)
            tensor.data_location = TensorProto.EXTERNAL
        return names


ONNX_NUMBERS = {"U8": TensorProto.UINT8, "F32": TensorProto.FLOAT}


def block_shapes(
    product: Product, form: BlockForm, names: BlockNames
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of a quantised matrix's tensors before there is one, by name."""
    count = -(-product.inner // form.size)
    found = {
        names.levels: ("U8", (product.outputs, count, form.size * form.bits // 8)),
        names.scales: ("F32", (product.outputs * count,)),
    }
    if names.zeros:
        found[names.zeros] = ("U8", (product.outputs * -(-count * form.bits // 8),))
    return found
