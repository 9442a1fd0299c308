"""Pictures in the making: of every value what is known of it, and the means that are kept.

A value that nothing is known of lies between 0 and 255, a finished one between itself and itself,
and one whose top bits are decided between those bits' ends. Knows values and slots; neither
networks nor how anything is decided.
"""

import numpy as np

from cascade.pixels.guess import cell_guess, sums_of_cells
from cascade.pixels.planes import BITS, Plane
from cascade.pixels.slots import Slots
from cascade.types import Array

HIGHEST = 255
CHANNEL_COUNT = 3


class Canvas:
    """`B` pictures of one size, filled pass by pass. Mutable: its pictures grow in place."""

    def __init__(self, size: tuple[int, int], parent: Array | None, rows: int) -> None:
        """Nothing is known but the parent.

        Args:
            size: height and width.
            parent: `[B, h, w, 3]` uint8; None for none.
            rows: `B`.
        """
        small = None if parent is None else (int(parent.shape[1]), int(parent.shape[2]))
        self.slots, self.parent, self._rows = Slots(size, small), parent, rows
        shape = (CHANNEL_COUNT, rows, self.slots.width)
        # The middle of what is known, 0 where nothing is; and how many bits that is.
        self._values, self._decided = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self._sums: tuple[Array, Array] | None = None
        if parent is not None:
            given = np.moveaxis(parent.reshape(rows, -1, CHANNEL_COUNT), 2, 0)
            self._values[..., : self.slots.cells] = given
            self._decided[..., : self.slots.cells] = BITS

    def give_corners(self) -> None:
        """Take the parent's pixels as the corners of their cells."""
        if self.parent is None:
            return
        size = self.slots.size
        down, along = (a // b for a, b in zip(size, self.parent.shape[1:3], strict=True))
        self.planar[..., ::down, ::along] = np.moveaxis(self.parent, 3, 0)
        self._pixels(self._decided)[..., ::down, ::along] = BITS

    def keep_means(self) -> None:
        """From now on count what every cell's values come to at least and at most."""
        if self.parent is None:
            return
        low = np.where(self._pixels(self._decided), self.planar, np.uint8(0))
        high = np.where(self._pixels(self._decided), self.planar, np.uint8(HIGHEST))
        factor = self.slots.size[0] // self.parent.shape[1]
        self._sums = (
            self._of_cells(sums_of_cells(low, factor)),
            self._of_cells(sums_of_cells(high, factor)),
        )

    def _of_cells(self, sums: Array) -> Array:
        """Sums of cells `[3, B, h, w]` int32 at the slots of the parent's pixels, of all slots."""
        found = np.zeros(self._values.shape, sums.dtype)
        found[..., : self.slots.cells] = sums.reshape(*sums.shape[:2], -1)
        return found

    def _pixels(self, field: Array) -> Array:
        """The picture's part of `[3, B, slots]`, `[3, B, H, W]`: no copy."""
        part = field[..., self.slots.cells : self.slots.outside]
        return part.reshape(*part.shape[:2], *self.slots.size)

    @property
    def planar(self) -> Array:
        """The middle of what is known, 0 where nothing is: `[3, B, H, W]` uint8, no copy."""
        return self._pixels(self._values)

    @property
    def planar_decided(self) -> Array:
        """Bits of every value that are decided, `[3, B, H, W]` uint8, no copy."""
        return self._pixels(self._decided)

    def values(self) -> Array:
        """`[B, H, W, 3]` uint8: the middle of what is known, 0 where nothing is."""
        return np.ascontiguousarray(np.moveaxis(self.planar, 0, 3))

    @property
    def decided(self) -> Array:
        """Bits of every value that are decided, `[B, H, W, 3]` uint8."""
        return np.moveaxis(self.planar_decided, 0, 3)

    def at(self, slots: Array) -> Array:
        """The middle of what is known, at slots of any shape: `[3, ...]` uint8."""
        return np.take(self._values.reshape(CHANNEL_COUNT, -1), slots, axis=1)

    def usable(self, bits: int) -> Array:
        """Of every slot, dtype bool: are so many bits of all channels known, `[B * slots]`."""
        found: Array = self._decided.min(axis=0) >= bits
        return found.reshape(-1)

    def cell_guesses(self, usable: Array) -> Array:
        """The guesses of every cell by the rule `cell`, where there is a parent.

        Args:
            usable: of every slot, `[B * slots]` bool.

        Returns:
            `[3, B * slots]` uint8, at the slots of the parent's pixels.
        """
        known = self._pixels(usable.reshape(1, self._rows, -1))
        small = self.slots.small or (0, 0)
        parent = self._values[..., : self.slots.cells]
        given = parent.reshape(*parent.shape[:2], *small)
        return self._of_cells(cell_guess(self.planar, known, given)).reshape(CHANNEL_COUNT, -1)

    def bounds(self, slots: Array, channel: int, plane: Plane) -> tuple[Array | int, Array | int]:
        """What values lie between before a plane of them is decided.

        Args:
            slots: `[m]` int64, of pixels none of which knows the plane.
            channel: 0 to 2.
            plane: that comes next.

        Returns:
            The least and the largest, `[m]` uint8; plain numbers before the first plane.
        """
        if plane.is_first:
            return 0, HIGHEST
        above = 1 << plane.bits + plane.below
        low = self._values[channel].reshape(-1)[slots] - np.uint8(above >> 1)
        return low, low + np.uint8(above - 1)

    def allowed(
        self, slots: Array, cells: Array, channel: int, plane: Plane
    ) -> tuple[Array, Array] | None:
        """The values with which the cell's mean can still be the parent's pixel.

        Args:
            slots: `[m]` int64, each in a cell of its own.
            cells: `[m]` int64, slots of the parent's pixels.
            channel: 0 to 2.
            plane: that comes next.

        Returns:
            The least and the largest, `[m]` uint8; None where no means are kept.

        References:
            The mean is `(sum + area / 2) // area`, so the sum of a cell with the mean `m` lies
            between `area m - area / 2` and `area m + area - 1 - area / 2`.
        """
        if self._sums is None or self.parent is None:
            return None
        low, high = self.bounds(slots, channel, plane)
        area = (self.slots.size[0] // self.parent.shape[1]) ** 2
        least = self._values[channel].reshape(-1)[cells].astype(np.int32)
        least *= area
        least -= area // 2
        sums_low, sums_high = (sums[channel].reshape(-1)[cells] for sums in self._sums)
        first = np.maximum(least - sums_high + high, low)
        last = np.minimum(least - sums_low + (area - 1) + low, high)
        return first.astype(np.uint8), last.astype(np.uint8)

    def decide(
        self, slots: Array, channel: int, plane: Plane, part: Array, cells: Array | None = None
    ) -> None:
        """Write a plane's bits.

        Args:
            slots: `[m]` int64; each in a cell of its own where means are kept.
            channel: 0 to 2.
            plane: which bits.
            part: `[m]` uint8, the bits as numbers from 0.
            cells: `[m]` int64, slots of the parent's pixels; needed where means are kept.
        """
        low, high = self.bounds(slots, channel, plane)
        now = part << plane.below if plane.below else part
        now = now if plane.is_first else now + low
        if self._sums is not None:
            for sums, end, before in zip(
                self._sums, (now, now + np.uint8((1 << plane.below) - 1)), (low, high), strict=True
            ):
                sums[channel].reshape(-1)[cells] += end - np.asarray(before, np.int32)
        self._values[channel].reshape(-1)[slots] = now + np.uint8(1 << plane.below >> 1)
        self._decided[channel].reshape(-1)[slots] = plane.decided
