"""What happens around one run of an engine, decided as values: no card is needed to test it.

Which inputs are right, which recorded graph fits, which arrays must cross to the card and which lie
there already. Knows numpy; neither CUDA nor TensorRT.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from cascade.errors import EngineError
from cascade.types import Array

COMPARED_AT_ONCE = 1 << 20
"""Bytes compared before looking whether they differed: arrays that changed cost one piece."""

ShapeKey = tuple[tuple[str, tuple[int, ...]], ...]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Binding:
    """One input or output of an engine.

    Attributes:
        name: in the graph.
        dtype: numpy's name.
        shape: -1 for a free axis.
        smallest, largest: of the profile; the shape itself where nothing is free.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    smallest: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()


def check_inputs(bindings: Iterable[Binding], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs in C order, in the engine's order.

    Args:
        bindings: the engine's inputs.
        inputs: arrays by name, of any shape and dtype.

    Raises:
        EngineError: a name is missing or unknown, or a dtype or a shape is not the engine's.
    """
    known = {binding.name: binding for binding in bindings}
    if known.keys() != inputs.keys():
        raise EngineError(f"inputs: expected {sorted(known)}, got {sorted(inputs)}")
    for name, binding in known.items():
        check_array(binding, inputs[name])
    return {name: np.ascontiguousarray(inputs[name]) for name in known}


def check_array(binding: Binding, array: Array) -> None:
    """Raise unless an array fits an input.

    Args:
        binding: the engine's dtype, and the smallest and largest shape of its profile.
        array: any shape and dtype.

    Raises:
        EngineError: naming the input, what was expected and what came.
    """
    if array.dtype.name != binding.dtype:
        raise EngineError(f"input {binding.name}: expected {binding.dtype}, got {array.dtype.name}")
    low, high = binding.smallest or binding.shape, binding.largest or binding.shape
    fits = array.ndim == len(binding.shape) and all(
        least <= size <= most for least, size, most in zip(low, array.shape, high, strict=True)
    )
    if not fits:
        raise EngineError(
            f"input {binding.name}: shape {list(array.shape)} is not between {list(low)} and "
            f"{list(high)}: build the engine with a wider profile"
        )


def shape_key(inputs: Mapping[str, Array]) -> ShapeKey:
    """What a recorded graph is found by: every input's shape, whatever the dtypes."""
    return tuple((name, tuple(inputs[name].shape)) for name in sorted(inputs))


def size_bytes(shape: Iterable[int], dtype: str) -> int:
    """Bytes of an array; at least one, since an empty buffer has no address."""
    return max(1, int(np.prod(list(shape), dtype=np.int64)) * np.dtype(dtype).itemsize)


@dataclass(slots=True)
class Sent:
    """What lies on the card under one input's name.

    Attributes:
        source: the very array that was sent, kept alive so that its identity stays its own.
        staged: the bytes as sent, in pinned memory.
    """

    source: Array | None
    staged: Array

    def holds(self, array: Array) -> bool:
        """Whether the card has these numbers already.

        Either it is the same array and nobody can have written to it since, or its bytes equal
        those that were sent. Equal addresses alone prove nothing.

        Args:
            array: of the shape and dtype of `staged`, in C order.
        """
        if self.source is None:
            return False
        return (array is self.source and frozen(array)) or same_bytes(array, self.staged)


def frozen(array: Array) -> bool:
    """Whether neither the array nor what it is a view of can be written through numpy.

    Args:
        array: any shape and dtype.
    """
    owner: object = array
    # A read-only view of a writable array can change under its reader.
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return owner is None or isinstance(owner, bytes)


def same_bytes(array: Array, other: Array) -> bool:
    """Whether C-ordered arrays of one shape and dtype hold the same bytes; NaN equals itself."""
    # As bytes: NaN differs from itself, and 0.0 equals -0.0.
    a, b = (np.ravel(x).view(np.uint8) for x in (array, other))
    return all(
        np.array_equal(a[at : at + COMPARED_AT_ONCE], b[at : at + COMPARED_AT_ONCE])
        for at in range(0, a.size, COMPARED_AT_ONCE)
    )


class RecentlyUsed(Generic[Item]):
    """A few items by key; the one not used for longest goes first."""

    def __init__(self, capacity: int, release: Callable[[Item], None]) -> None:
        self.capacity = capacity
        self.release = release
        self.items: OrderedDict[ShapeKey, Item] = OrderedDict()

    def get(self, key: ShapeKey, make: Callable[[], Item]) -> Item:
        """The item of a key, made if it is not there; room is made before it is."""
        if key not in self.items:
            while len(self.items) >= self.capacity:
                self.release(self.items.popitem(last=False)[1])
            self.items[key] = make()
        self.items.move_to_end(key)
        return self.items[key]

    def clear(self) -> None:
        """Release everything."""
        while self.items:
            self.release(self.items.popitem()[1])
