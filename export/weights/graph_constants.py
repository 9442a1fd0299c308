"""Numbers of a graph that depend on no input: weights in whatever form the file stores them.

Knows ONNX nodes and arrays; not whose weights they are.
"""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cascade.types import Array

BIAS = 2
"""Place among the inputs of a convolution."""
Attributes = dict[str, object]


class Constants:
    """Values of a graph that depend on no input, worked out when asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._stored = {t.name: t for t in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._layers = [n for n in model.graph.node if len(n.input) == BIAS + 1]

    @property
    def names(self) -> tuple[str, ...]:
        """Of what lies in the file."""
        return tuple(self._stored)

    def value(self, name: str) -> Array:
        """One value.

        Raises:
            KeyError: it depends on an input, or on an operator unknown here.
        """
        if name in self._stored:
            return numpy_helper.to_array(self._stored[name])
        node = self._makers[name]
        attributes: Attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Split":
            data, sizes = (self.value(n) for n in node.input)
            parts = np.split(data, np.cumsum(sizes)[:-1], int(str(attributes.get("axis", 0))))
            return parts[list(node.output).index(name)]
        return OPERATORS[node.op_type]([self.value(n) for n in node.input if n], attributes)

    def bias_beside(self, weight: str) -> Array:
        """The bias of the layer whose weight bears a name, whatever the bias is called.

        Raises:
            KeyError: no layer reads that weight, or its bias depends on an input.
        """
        for node in self._layers:
            name = node.input[1]
            while name != weight and name in self._makers:
                name = self._makers[name].input[0]
            if name == weight:
                return self.value(node.input[BIAS])
        raise KeyError(weight)


def widened(inputs: list[Array], attributes: Attributes) -> Array:
    """DequantizeLinear of symmetric grids: integers of any shape times their channel's scale."""
    values, scale = inputs[0].astype(np.float32), inputs[1]
    if scale.size > 1:
        shape = [1] * values.ndim
        shape[int(str(attributes.get("axis", 1)))] = -1
        scale = scale.reshape(shape)
    return np.asarray(values * scale)


def cast(inputs: list[Array], attributes: Attributes) -> Array:
    """A Cast of any shape, unless it takes bits away: forms compute in 16, the file has more."""
    kind = helper.tensor_dtype_to_np_dtype(int(str(attributes["to"])))
    value = inputs[0]
    if value.dtype == np.float32 and kind.itemsize < value.itemsize:
        return value
    return value.astype(kind)


def scattered(data: Array, places: Array, values: Array) -> Array:
    """ScatterElements of a flat array `[n]`: values `[m]` put at places `[m]`."""
    found = data.copy()
    found[places] = values
    return found


OPERATORS: dict[str, Callable[[list[Array], Attributes], Array]] = {
    "Constant": lambda _, a: numpy_helper.to_array(a["value"]),  # type: ignore[arg-type]
    "Cast": cast,
    "Reshape": lambda i, _: i[0].reshape(i[1]),
    "Transpose": lambda i, a: np.transpose(i[0], a["perm"]),  # type: ignore[call-overload]
    "Mul": lambda i, _: np.asarray(i[0] * i[1]),
    "DequantizeLinear": widened,
    "ScatterElements": lambda i, _: scattered(*i),
}
