"""Tensors as bytes: equal to the bit on the way back, refused by field when anything disagrees."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cascade.codecs.tensor import MAX_ELEMENTS, PackedTensor, pack_tensor, unpack_tensor
from cascade.errors import TensorCodecError
from cascade.types import Array

QUICK = settings(derandomize=True, deadline=None, max_examples=80)
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)
TENSORS = st.one_of(
    arrays.arrays(np.uint8, SHAPES),
    *(
        arrays.arrays(
            kind, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False, width=width)
        )
        for kind, width in ((np.float16, 16), (np.float32, 32))
    ),
)


@QUICK
@given(TENSORS)
def test_round_trip(array: Array) -> None:
    """Shape, dtype and every bit come back."""
    packed = pack_tensor(array)
    again = unpack_tensor(packed, field="x")
    assert (again.shape, again.dtype) == (array.shape, array.dtype)
    assert again.tobytes() == array.tobytes()
    assert len(packed.data) == array.nbytes


def test_bytes_by_hand() -> None:
    """Little-endian, C order: what another language has to write."""
    packed = pack_tensor(np.array([[1.0, -2.0], [0.5, 0.0]], np.float16))
    assert packed == PackedTensor((2, 2), "float16", bytes.fromhex("003c00c000380000"))


@pytest.mark.parametrize("order", ["transposed", "strided", "big_endian"])
def test_layout_in_memory_does_not_matter(order: str) -> None:
    """Only the values travel, not how they lay in memory."""
    plain = np.arange(24, dtype=np.float32).reshape(4, 6)
    laid = {
        "transposed": np.asfortranarray(plain),
        "strided": np.repeat(plain, 2, axis=1)[:, ::2],
        "big_endian": plain.astype(">f4"),
    }[order]
    assert pack_tensor(laid) == pack_tensor(plain)


def test_the_result_is_read_only() -> None:
    """Unpacked arrays share the message's bytes and cannot be written to."""
    array = unpack_tensor(pack_tensor(np.ones(3, np.float32)), field="x")
    assert not array.flags.writeable


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.bool_, np.complex64])
def test_other_dtypes_are_not_packed(kind: Any) -> None:
    """A dtype that the wire does not know is refused before it is sent."""
    with pytest.raises(TensorCodecError, match="dtype: expected one of uint8, float16, float32"):
        pack_tensor(np.ones(2, kind))


@pytest.mark.parametrize(
    ("shape", "dtype", "size", "part"),
    [
        ((2,), "float64", 16, "dtype"),
        ((2,), "", 8, "dtype"),
        ((2,), "Float32", 8, "dtype"),
        ((), "float32", 4, "shape"),
        ((0,), "float32", 0, "shape"),
        ((2, 0), "float32", 0, "shape"),
        ((-1, -4), "float32", 16, "shape"),
        ((1, 1, 1, 1, 1), "float32", 4, "shape"),
        ((MAX_ELEMENTS + 1,), "uint8", 1, "shape"),
        ((2**31, 2**31, 2**31, 2**31), "float32", 0, "shape"),
        ((2**62, 4), "float32", 0, "shape"),
        ((2, 2), "float32", 15, "data"),
        ((2, 2), "float32", 17, "data"),
        ((2, 2), "float32", 0, "data"),
        ((2, 2), "float16", 16, "data"),
        ((2, 2), "uint8", 16, "data"),
    ],
)
def test_a_mismatch_is_refused_by_its_field(
    shape: tuple[int, ...], dtype: str, size: int, part: str
) -> None:
    """Dtype, rank, size and length are checked before anything is allocated."""
    with pytest.raises(TensorCodecError) as caught:
        unpack_tensor(PackedTensor(shape, dtype, bytes(size)), field="start.context")
    assert caught.value.field == f"start.context.{part}"
    assert str(caught.value).startswith(f"start.context.{part}: ")


def test_the_largest_tensor_is_accepted() -> None:
    """The bound on elements itself is allowed."""
    packed = PackedTensor((4096, 4096), "uint8", bytes(MAX_ELEMENTS))
    assert unpack_tensor(packed, field="x").size == MAX_ELEMENTS


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5])
def test_every_value_must_be_finite(kind: Any, value: float, place: int) -> None:
    """One NaN or infinity anywhere is refused."""
    array = np.zeros(6, kind)
    array[place] = value
    with pytest.raises(TensorCodecError, match="must be finite") as caught:
        unpack_tensor(pack_tensor(array), field="x")
    assert caught.value.field == "x.data"


@QUICK
@given(
    shape=st.lists(st.integers(-3, 2**40), max_size=6),
    dtype=st.sampled_from(["uint8", "float16", "float32", "int8"]) | st.text(max_size=40),
    data=st.binary(max_size=64),
)
def test_nothing_else_is_raised(shape: list[int], dtype: str, data: bytes) -> None:
    """Whatever arrives, it is a tensor of that shape or a TensorCodecError with a field."""
    try:
        array = unpack_tensor(PackedTensor(tuple(shape), dtype, data), field="x")
        found: object = (list(array.shape), array.nbytes)
    except TensorCodecError as exc:
        found = exc.field
    assert found in [(shape, len(data)), "x.dtype", "x.shape", "x.data"]
