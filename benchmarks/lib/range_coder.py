"""An arithmetic coder for whole-number weights up to 2^64, and deciders that code pictures with it.

Bits per value are an estimate until bytes exist from which another engine makes the picture again.
Knows weights; neither networks nor files.

References:
    Martin 1979, "Range encoding": a range is divided in proportion to the weights, top bytes leave.
"""

from collections.abc import Iterable

import numpy as np

from cascade.pixels.pictures import Turn
from cascade.pixels.weights import Weights
from cascade.types import Array

RANGE_BITS, LEAST_BITS = 128, 96
"""Of a range at first, and what it is widened above: totals stay far below it."""
MASK = (1 << RANGE_BITS) - 1


def encoded(intervals: Iterable[tuple[Array, Array, Array]]) -> bytes:
    """Bytes of a sequence of choices.

    Args:
        intervals: of each (begin, size, total) of its weights, `[n]` each, in order.
    """
    out = bytearray()
    low, span = 0, MASK
    for columns in intervals:
        for begin, size, total in zip(*(column.tolist() for column in columns), strict=True):
            step = span // total
            low += step * begin
            span = step * size
            if low > MASK:
                low &= MASK
                carry(out)
            while span >> LEAST_BITS == 0:
                out.append(low >> RANGE_BITS - 8)
                low = low << 8 & MASK
                span <<= 8
    # As few bytes as name a number inside the last range.
    for count in range(1, RANGE_BITS // 8 + 1):
        shift = RANGE_BITS - 8 * count
        end = low + (1 << shift) - 1 >> shift
        if end << shift < low + span:
            break
    if end >> 8 * count:
        carry(out)
    return bytes(out) + (end & (1 << 8 * count) - 1).to_bytes(count)


def carry(out: bytearray) -> None:
    """Add one to the number that the bytes so far are."""
    at = len(out) - 1
    while out[at] == 0xFF:
        out[at] = 0
        at -= 1
    out[at] += 1


class Decoding:
    """A decider that reads its choices from bytes; see `cascade.pixels.pictures.Decider`."""

    def __init__(self, data: bytes) -> None:
        """Nothing is read.

        Args:
            data: as `encoded` wrote them.
        """
        self._data, self._at = data, RANGE_BITS // 8
        self._code = int.from_bytes(data[: self._at].ljust(self._at, b"\0"))
        self._span = MASK

    def choose(self, turn: Turn, digit: int, weights: Weights) -> Array:
        """The choices that were coded, `[n]` uint8."""
        del turn, digit
        ends = np.cumsum(weights, axis=0)
        return np.array([self.one(column.tolist()) for column in ends.T], np.uint8)

    def one(self, ends: list[int]) -> int:
        """One choice, given the running sums of its weights."""
        step = self._span // ends[-1]
        place = self._code // step
        choice = next((at for at, end in enumerate(ends) if place < end), len(ends) - 1)
        begin = ends[choice - 1] if choice else 0
        self._code -= step * begin
        self._span = step * (ends[choice] - begin)
        while self._span >> LEAST_BITS == 0:
            byte = self._data[self._at] if self._at < len(self._data) else 0
            self._code = self._code << 8 | byte
            self._at += 1
            self._span <<= 8
        return choice
