"""What the TensorRT engine decides before it touches a card."""

import numpy as np
import pytest

from cascade.engines.trt_plan import (
    COMPARED_AT_ONCE,
    Binding,
    RecentlyUsed,
    Sent,
    check_inputs,
    frozen,
    same_bytes,
    shape_key,
    size_bytes,
)
from cascade.errors import EngineError
from cascade.types import Array

BINDINGS = [
    Binding("x", "float32", (-1, 3, -1, -1), (1, 3, 64, 64), (4, 3, 256, 256)),
    Binding("t", "float32", (-1,), (1,), (4,)),
]


def inputs(batch: int = 2, size: int = 64) -> dict[str, Array]:
    """Inputs that fit `BINDINGS`."""
    return {"t": np.zeros(batch, np.float32), "x": np.zeros((batch, 3, size, size), np.float32)}


def test_right_inputs_pass_in_the_engines_order() -> None:
    """Views are made contiguous; what is contiguous is not copied."""
    given = inputs()
    checked = check_inputs(BINDINGS, given)
    assert list(checked) == ["x", "t"]
    assert checked["x"] is given["x"]
    turned = np.zeros((2, 64, 64, 3), np.float32).transpose(0, 3, 1, 2)
    assert check_inputs(BINDINGS, {**given, "x": turned})["x"].flags.c_contiguous


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": np.zeros(1)}, "expected"),
        ({"t": np.zeros(2, np.float64)}, "expected float32, got float64"),
        ({"t": np.zeros(5, np.float32)}, "is not between"),
        ({"t": np.zeros((2, 1), np.float32)}, "is not between"),
        ({"x": np.zeros((2, 4, 64, 64), np.float32)}, "is not between"),
        ({"x": np.zeros((2, 3, 32, 64), np.float32)}, "is not between"),
        ({"x": np.zeros((2, 3, 64, 512), np.float32)}, "wider profile"),
    ],
)
def test_wrong_inputs_are_refused(change: dict[str, Array], words: str) -> None:
    """By name, dtype, number of axes and the profile's range."""
    with pytest.raises(EngineError, match=words):
        check_inputs(BINDINGS, {**inputs(), **change})


def test_a_missing_input_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(EngineError, match=r"expected \['t', 'x'\], got \['t'\]"):
        check_inputs(BINDINGS, {"t": np.zeros(1, np.float32)})


def test_a_graph_is_found_by_all_shapes_in_any_order() -> None:
    """The key does not depend on the order of a dictionary, and does on every size."""
    given = inputs()
    assert shape_key(given) == shape_key(dict(reversed(given.items())))
    assert shape_key(inputs(batch=1)) != shape_key(given) != shape_key(inputs(size=96))


def test_sizes() -> None:
    """Bytes of an array; an empty one still has an address."""
    assert size_bytes((2, 3, 4), "float32") == 96
    assert size_bytes((2,), "int64") == 16
    assert size_bytes((0, 4), "float32") == 1


def sent(array: Array) -> Sent:
    """As after sending an array."""
    return Sent(array, array.copy())


def test_nothing_is_there_at_first() -> None:
    """Not even when the staging memory happens to hold the same bytes."""
    zeros = np.zeros(4, np.float32)
    assert not Sent(None, zeros.copy()).holds(zeros)


def test_an_array_that_was_changed_in_place_is_sent_again() -> None:
    """The same object with other numbers: identity alone would be wrong."""
    array = np.zeros(1000, np.float32)
    there = sent(array)
    assert there.holds(array)
    array[-1] = 1
    assert not there.holds(array)


def test_a_view_of_something_writable_is_compared() -> None:
    """Read-only itself, changed through its base."""
    base = np.zeros(1000, np.float32)
    view = base[:]
    view.flags.writeable = False
    assert not frozen(view)
    there = sent(view)
    base[0] = 1
    assert not there.holds(view)


def test_a_frozen_array_is_known_by_its_identity() -> None:
    """Nobody can have changed it; a copy of it is known by its bytes."""
    array = np.arange(10, dtype=np.float32)
    array.flags.writeable = False
    there = Sent(array, np.zeros(10, np.float32))  # staging overwritten: only identity is left
    assert there.holds(array)
    assert not there.holds(array.copy())
    assert frozen(np.frombuffer(b"12345678", np.uint8))
    assert not frozen(np.frombuffer(bytearray(8), np.uint8))


@pytest.mark.parametrize("at", [0, COMPARED_AT_ONCE // 4 - 1, COMPARED_AT_ONCE // 4, -1])
def test_a_difference_anywhere_is_seen(at: int) -> None:
    """In the first piece, at the border, in the last."""
    a = np.zeros(COMPARED_AT_ONCE // 2, np.float32)
    b = a.copy()
    assert same_bytes(a, b)
    b[at] = 1
    assert not same_bytes(a, b)


def test_bytes_are_compared_and_not_numbers() -> None:
    """NaN is itself; minus zero is not zero."""
    nan = np.full(3, np.nan, np.float32)
    assert same_bytes(nan, nan.copy())
    assert not same_bytes(np.zeros(1, np.float32), -np.zeros(1, np.float32))


def test_the_one_not_used_for_longest_goes_first() -> None:
    """Room is made before the new one is, and everything is released once."""
    released: list[str] = []
    items: RecentlyUsed[str] = RecentlyUsed(2, released.append)
    a, b, c = (shape_key({"x": np.zeros(n)}) for n in (1, 2, 3))
    assert [items.get(key, lambda v=v: v) for key, v in ((a, "a"), (b, "b"), (a, "?"))] == list(
        "aba"
    )
    assert items.get(c, lambda: "c" if released == ["b"] else "too late") == "c"
    items.clear()
    items.clear()
    assert sorted(released) == ["a", "b", "c"]
