"""A matrix as whole numbers in blocks along its inner axis, each block with a scale and a zero.

`value = (level - zero) * scale`, every value within half a scale of what it was. Elsewhere:
weight-only, group-wise, round-to-nearest quantisation. Knows arrays; not graphs.

References:
    `MatMulNBits` in
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md (how bytes lie).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

Zeros = Literal["symmetric", "asymmetric"]

Matrix = Annotated[NDArray[np.float32], "inner outputs"]
Blocks = Annotated[NDArray[np.float32], "outputs blocks size"]
Levels = Annotated[NDArray[np.uint8], "outputs blocks size"]
Scales = Annotated[NDArray[np.float32], "outputs blocks"]
BlockZeros = Annotated[NDArray[np.uint8], "outputs blocks"]

SLICE_VALUES = 1 << 22
"""Values that are quantised at once: memory beside the matrix is a few times this, in float32."""


@dataclass(frozen=True, slots=True)
class BlockForm:
    """How a matrix is quantised.

    Attributes:
        bits: of a level, 4 or 8.
        size: values of a block.
        zeros: `asymmetric` fits each block's own range; `symmetric` has its zero in the middle,
            which is not stored.
    """

    bits: Literal[4, 8]
    size: int = 32
    zeros: Zeros = "asymmetric"

    @property
    def largest(self) -> int:
        """The largest level."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero of a block where none is stored."""
        return 1 << (self.bits - 1)


@dataclass(frozen=True, slots=True)
class BlockWeight:
    """A quantised matrix.

    Attributes:
        levels: by output, block and place in the block; the last block of an output may be longer
            than the matrix: the rest of it is its zero.
        scales: of every block.
        zeros: level of the number 0 in every block.
    """

    levels: Levels
    scales: Scales
    zeros: BlockZeros


def quantize(value: Matrix, form: BlockForm) -> BlockWeight:
    """The nearest levels of every block.

    Args:
        value: a finite matrix, as a product reads it: `x @ value`.
        form: how.
    """
    inner, outputs = value.shape
    count = -(-inner // form.size)
    levels = np.empty((outputs, count, form.size), np.uint8)
    scales = np.empty((outputs, count), np.float32)
    zeros = np.empty((outputs, count), np.uint8)
    step = max(1, SLICE_VALUES // max(1, inner))
    for begin in range(0, outputs, step):
        part = slice(begin, min(begin + step, outputs))
        padded = np.zeros((part.stop - begin, count * form.size), np.float32)
        padded[:, :inner] = value[:, part].T
        blocks = padded.reshape(-1, count, form.size)
        scales[part], zeros[part] = grid_of(blocks, form)
        steps = np.rint(blocks / scales[part][..., None]) + zeros[part][..., None]
        levels[part] = steps.clip(0, form.largest)
    return BlockWeight(levels, scales, zeros)


def grid_of(blocks: Blocks, form: BlockForm) -> tuple[Scales, BlockZeros]:
    """Scale and zero of every block: 0 is always a level, as what is padded has to be."""
    low = np.minimum(blocks.min(axis=-1), 0)
    high = np.maximum(blocks.max(axis=-1), 0)
    if form.zeros == "symmetric":
        scales = np.maximum(-low, high) / (form.middle - 1)
        zeros = np.full(scales.shape, form.middle, np.uint8)
    else:
        # Halved: the difference of two finite numbers may be none.
        scales = (high / 2 - low / 2) / (form.largest / 2)
        zeros = np.zeros(scales.shape, np.uint8)
    scales = np.asarray(scales, np.float32)
    # A block of zeros, or of numbers so small that a step between them is none.
    scales[scales < np.finfo(np.float32).tiny] = 1
    if form.zeros == "asymmetric":
        zeros = np.rint(-low / scales).clip(0, form.largest).astype(np.uint8)
    return scales, zeros


def dequantize(weight: BlockWeight, inner: int) -> Matrix:
    """The matrix that the levels stand for: `(level - zero) * scale`.

    Args:
        weight: quantised.
        inner: rows of the matrix; what the last block has more was padded.
    """
    steps = weight.levels.astype(np.float32) - weight.zeros[..., None]
    value = (steps * weight.scales[..., None]).reshape(len(weight.levels), -1)
    return np.ascontiguousarray(value[:, :inner].T)


def packed(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Levels as bytes: of 4 bits two in one, the first one low, the last one alone if need be.

    Args:
        levels: of any shape `[..., n]`; of 4 bits the result's is `[..., n / 2]`, rounded up.
        bits: 4 or 8.
    """
    if bits == 8:
        return levels
    odd = levels.shape[-1] % 2
    if odd:
        levels = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), np.uint8)], axis=-1)
    return np.bitwise_or(levels[..., 0::2], levels[..., 1::2] << 4, dtype=np.uint8)
