"""Where a picture in the making lies in memory: parent and picture of a row behind one another.

What may be copied comes from either, so that both are one row of slots: the parent's pixels, the
picture's, and a last slot that stands for whatever is outside. Rows of a batch follow each other.
Knows positions; not values.
"""

from dataclasses import dataclass

import numpy as np

from cascade.pixels.guess import cell_of
from cascade.types import Array


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of one row.

    Attributes:
        size: height and width of the picture.
        small: of its parent, or None.
    """

    size: tuple[int, int]
    small: tuple[int, int] | None

    @property
    def cells(self) -> int:
        """Pixels of the parent."""
        return 0 if self.small is None else self.small[0] * self.small[1]

    @property
    def outside(self) -> int:
        """The slot that stands for none."""
        return self.cells + self.size[0] * self.size[1]

    @property
    def width(self) -> int:
        """Slots of a row."""
        return self.outside + 1

    def of_pixels(self, places: Array, rows: int) -> Array:
        """Slots of flat positions `[m]` int64 in each of `rows` pictures, `[rows * m]`."""
        return self.in_rows(places + self.cells, rows)

    def of_cells(self, places: Array, rows: int) -> Array | None:
        """Slots of the parents' pixels of whose cells flat positions `[m]` int64 are, `[rows * m]`.

        None without a parent.
        """
        if self.small is None:
            return None
        return self.in_rows(cell_of(places, self.size, self.small), rows)

    def in_rows(self, slots: Array, rows: int) -> Array:
        """Slots of a row, `[..., m]` int64, in each of `rows`, `[..., rows * m]`."""
        moved: Array = slots[..., None, :] + np.arange(rows)[:, None] * self.width
        return moved.reshape(*slots.shape[:-1], rows * slots.shape[-1])
