"""Tensors as bytes: a shape, a dtype and exactly that many little-endian bytes.

Lengths are checked against the shape before anything is allocated, values for NaN and infinity
before anything computes with them. Knows no wire format: `PackedTensor` is what a message carries.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cascade.errors import TensorCodecError
from cascade.types import Array

DtypeName = Literal["uint8", "float16", "float32"]
DTYPES: dict[str, np.dtype] = {
    "uint8": np.dtype("u1"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}
MAX_ELEMENTS = 1 << 24
"""No tensor of the cascade has more; a request for more is refused before it costs memory."""
MAX_RANK = 4


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor as a message carries it."""

    shape: tuple[int, ...]
    dtype: str
    data: bytes


def pack_tensor(array: Array) -> PackedTensor:
    """An array as bytes in C order, little-endian.

    Args:
        array: any shape, one of `DTYPES`.

    Raises:
        TensorCodecError: the dtype is none of `DTYPES`.
    """
    name = array.dtype.name
    if name not in DTYPES:
        raise TensorCodecError(f"dtype: expected one of {', '.join(DTYPES)}, got {name}")
    data = np.ascontiguousarray(array, DTYPES[name]).tobytes()
    return PackedTensor(tuple(int(n) for n in array.shape), name, data)


def unpack_tensor(packed: PackedTensor, *, field: str) -> Array:
    """The array that `pack_tensor` packed, read-only.

    Args:
        packed: shape, dtype and bytes from outside.
        field: path of the message field, for errors.

    Returns:
        Of the shape and dtype that the message names, every number finite.

    Raises:
        TensorCodecError: dtype unknown, rank or size out of bounds, bytes that do not fit the shape
            (too few or too many), or values that are NaN or infinite.
    """
    dtype = DTYPES.get(packed.dtype)
    if dtype is None:
        raise TensorCodecError(
            f"{field}.dtype: expected one of {', '.join(DTYPES)}, got {packed.dtype[:32]!r}",
            field=f"{field}.dtype",
        )
    shape = packed.shape
    if not 1 <= len(shape) <= MAX_RANK or any(n < 1 for n in shape):
        raise TensorCodecError(
            f"{field}.shape: expected 1 to {MAX_RANK} positive sizes, got {list(shape)[:8]}",
            field=f"{field}.shape",
        )
    # Counted before any memory is asked for: sizes come from outside.
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS:
        raise TensorCodecError(
            f"{field}.shape: {elements} elements, at most {MAX_ELEMENTS} are accepted",
            field=f"{field}.shape",
        )
    expected = elements * dtype.itemsize
    if len(packed.data) != expected:
        raise TensorCodecError(
            f"{field}.data: {packed.dtype} {list(shape)} takes {expected} bytes, got "
            f"{len(packed.data)}",
            field=f"{field}.data",
        )
    array = np.frombuffer(packed.data, dtype).reshape(shape)
    # One such number in a context makes every pixel NaN, a stage later and on another machine.
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise TensorCodecError(
            f"{field}.data: holds NaN or infinity; every value must be finite",
            field=f"{field}.data",
        )
    return array
