"""Pictures in the making: of every value the bounds that are known, and the means that are kept.

A value that nothing is known of lies between 0 and 255, a finished one between itself and itself,
and one whose top bits are decided between those bits' ends. Knows values and positions; neither
networks nor how anything is decided.
"""

import numpy as np

from cascade.pixels.guess import cell_of, cell_sums
from cascade.pixels.planes import BITS, Plane
from cascade.types import Array

HIGHEST = 255


class Canvas:
    """`B` pictures of one size, filled pass by pass. Mutable: its pictures grow in place."""

    def __init__(self, size: tuple[int, int], parent: Array | None, rows: int) -> None:
        """Nothing is known.

        Args:
            size: height and width.
            parent: `[B, h, w, 3]` uint8, for means; None for none.
            rows: `B`.
        """
        self.size, self.parent = size, parent
        shape = (rows, *size, 3)
        self._low = np.zeros(shape, np.uint8)
        self._high = np.full(shape, HIGHEST, np.uint8)
        self._decided = np.zeros(shape, np.uint8)
        self._sums: tuple[Array, Array] | None = None

    def give_corners(self) -> None:
        """Take the parent's pixels as the corners of their cells."""
        if self.parent is None:
            return
        down, along = (a // b for a, b in zip(self.size, self.parent.shape[1:3], strict=True))
        self._low[:, ::down, ::along] = self._high[:, ::down, ::along] = self.parent
        self._decided[:, ::down, ::along] = BITS

    def keep_means(self) -> None:
        """From now on count what every cell's values come to at least and at most."""
        if self.parent is not None:
            factor = self.size[0] // self.parent.shape[1]
            self._sums = cell_sums(self._low, factor), cell_sums(self._high, factor)

    def values(self) -> Array:
        """`[B, H, W, 3]` uint8: the middle of what is known, 0 where nothing is."""
        half = (self._high - self._low >> 1) + (self._high - self._low & 1)
        return np.where(self._decided, self._low + half, np.uint8(0))

    @property
    def decided(self) -> Array:
        """Bits of every value that are decided, `[B, H, W, 3]` uint8."""
        return self._decided

    def bounds(self, places: Array, channel: int) -> tuple[Array, Array]:
        """What values lie between.

        Args:
            places: `[m]` int64, flat positions, the same of every picture.
            channel: 0 to 2.

        Returns:
            The least and the largest, `[B, m]` uint8.
        """
        return self._at(self._low, places, channel), self._at(self._high, places, channel)

    def allowed(self, places: Array, channel: int) -> tuple[Array, Array] | None:
        """The values with which the cell's mean can still be the parent's pixel.

        Args:
            places: `[m]` int64, each in a cell of its own.
            channel: 0 to 2.

        Returns:
            The least and the largest, `[B, m]` uint8; None where no means are kept.

        References:
            The mean is `(sum + area / 2) // area`, so the sum of a cell with the mean `m` lies
            between `area m - area / 2` and `area m + area - 1 - area / 2`.
        """
        if self._sums is None or self.parent is None:
            return None
        low, high = self.bounds(places, channel)
        cells = cell_of(places, self.size, self.parent.shape[1:3])
        area = (self.size[0] // self.parent.shape[1]) ** 2
        mean = self._at(self.parent, cells, channel).astype(np.int32)
        least = area * mean - area // 2
        others_low = self._at(self._sums[0], cells, channel) - low
        others_high = self._at(self._sums[1], cells, channel) - high
        first = np.maximum(low, least - others_high)
        last = np.minimum(high, least + area - 1 - others_low)
        return first.astype(np.uint8), last.astype(np.uint8)

    def decide(self, places: Array, channel: int, plane: Plane, part: Array) -> None:
        """Write a plane's bits.

        Args:
            places: `[m]` int64; each in a cell of its own where means are kept.
            channel: 0 to 2.
            plane: which bits.
            part: `[B, m]` uint8, the bits as numbers from 0.
        """
        before_low, before_high = self.bounds(places, channel)
        low = before_low | part << plane.below
        high = low | (1 << plane.below) - 1
        self._write(self._low, places, channel, low)
        self._write(self._high, places, channel, high)
        self._write(self._decided, places, channel, plane.decided)
        if self._sums is not None and self.parent is not None:
            cells = cell_of(places, self.size, self.parent.shape[1:3])
            for sums, now, before in zip(
                self._sums, (low, high), (before_low, before_high), strict=True
            ):
                more = now.astype(np.int32) - before
                self._write(sums, cells, channel, self._at(sums, cells, channel) + more)

    @staticmethod
    def _at(field: Array, places: Array, channel: int) -> Array:
        """`[B, H, W, 3]` at flat places `[m]`: `[B, m]`."""
        found: Array = field.reshape(len(field), -1)[:, places * 3 + channel]
        return found

    @staticmethod
    def _write(field: Array, places: Array, channel: int, values: Array | int) -> None:
        """Write `[B, m]` at flat places `[m]` of `[B, H, W, 3]`."""
        field.reshape(len(field), -1)[:, places * 3 + channel] = values
