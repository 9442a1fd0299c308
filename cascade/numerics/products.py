"""Sums of products in a fixed order: the same bits on every machine, whatever library is below.

A matrix product, or a sum of numpy's, is added in an order that follows the library and the
processor. Here every product is exact, for two float32 numbers fit a float64, and the products are
added one after another, the first one first. Knows arrays; not what they mean.
"""

import numpy as np

from cascade.numerics.chunked import chunks
from cascade.types import Array


def dot(one: Array, other: Array) -> float:
    """`one_0 other_0 + one_1 other_1 + ...` in float64, from left to right.

    Args:
        one: any shape, float32; its values are taken in C order.
        other: of that shape, float32.
    """
    lines = one.reshape(-1), other.reshape(-1)
    total = 0.0
    for part in chunks(len(lines[0])):
        products = lines[0][part].astype(np.float64) * lines[1][part]
        # What was summed before stands before the first product: each sum has one order only.
        products[0] += total
        total = float(np.cumsum(products)[-1])
    return total
