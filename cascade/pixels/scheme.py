"""How a stage divides a picture into passes, as data of the manifest, and the list of its passes.

Knows positions and bit planes; not values or networks.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from cascade.errors import ManifestError
from cascade.pixels.copying import MAX_OFFSET, Offsets
from cascade.pixels.guess import GuessRule, cell_of
from cascade.pixels.mixture import MAX_CANDIDATES
from cascade.pixels.order import (
    GIVEN,
    OrderSpec,
    ParentKind,
    group_map,
    group_targets,
)
from cascade.pixels.planes import BITS, Plane, planes_of
from cascade.types import Array

CHANNELS = (0, 1, 2)
"""Red, green, blue: a later one may depend on the earlier ones of its pixel."""
MAX_PASSES = 1 << 14
"""Of a picture: each is a run of the network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassScheme:
    """How a picture is made pass by pass: planes outermost, then groups, then perhaps channels."""

    parent: ParentKind
    """What the picture that the stage starts from is of the one that it makes."""
    order: OrderSpec
    """Which group each pixel is in."""
    guess: GuessRule
    """What symbols are distances from."""
    planes: tuple[int, ...] = (BITS,)
    """Bits of each plane, the top ones first."""
    channel_passes: Literal["heads", "passes"] = "heads"
    """Channels of a pixel one after another: by the heads within a pass, or by a pass each."""
    parent_copies: Offsets = ()
    """Pixels of the parent that may be copied, from the cell that the new one is in."""
    canvas_copies: Offsets = ()
    """Known pixels of the picture that may be copied, from the new one."""
    keep_mean: bool = False
    """Rule out values with which the cell's mean could no longer be the parent's pixel."""

    @property
    def candidates(self) -> int:
        """Pixels that a new one may be a copy of."""
        return len(self.parent_copies) + len(self.canvas_copies)

    @property
    def passes(self) -> int:
        """Runs of the body for one picture."""
        channels = len(CHANNELS) if self.channel_passes == "passes" else 1
        return len(self.planes) * self.order.count * channels

    @property
    def head_runs(self) -> int:
        """Runs of the heads for one picture."""
        return len(self.planes) * self.order.count * len(CHANNELS)

    def check(self, path: str) -> None:
        """Refuse choices that contradict each other.

        Raises:
            ManifestError: naming the field under `path`.
        """
        self.order.check(f"{path}.order")
        planes_of(self.planes, f"{path}.planes")
        gives = GIVEN in self.order.groups
        if gives != (self.parent == "subsample"):
            raise refused(
                f"{path}.order.groups",
                "pixels that the parent gives, for a subsampled parent and for no other",
                f"{'some' if gives else 'none'} for parent {self.parent!r}",
            )
        needs_parent = self.guess != "zero" or self.parent_copies
        if needs_parent and self.parent == "none":
            raise refused(f"{path}.parent", "one for the guess and the copies", "none")
        needs_box = self.guess == "cell" or self.keep_mean
        if needs_box and self.parent != "box":
            raise refused(f"{path}.parent", "'box' for keep_mean and the guess 'cell'", self.parent)
        offsets = self.parent_copies + self.canvas_copies
        far = [o for o in offsets if len(o) != 2 or max(map(abs, o)) > MAX_OFFSET]
        if far or len(offsets) > MAX_CANDIDATES or (0, 0) in self.canvas_copies:
            raise refused(
                f"{path}.canvas_copies",
                f"at most {MAX_CANDIDATES} neighbours within {MAX_OFFSET}, not the pixel itself",
                far[:1] or len(offsets),
            )
        if self.passes > MAX_PASSES:
            raise refused(f"{path}.order", f"at most {MAX_PASSES} passes", self.passes)

    def check_sizes(self, size: tuple[int, int], small: tuple[int, int] | None, path: str) -> None:
        """Refuse pictures that the order does not fit.

        Args:
            size: height and width of the picture.
            small: of the parent, or None.
            path: of the stage's entry.

        Raises:
            ManifestError: naming the field under `path`.
        """
        if (small is None) != (self.parent == "none"):
            raise refused(f"{path}.scheme.parent", f"a parent of {small}", self.parent)
        if any(side % self.order.period for side in size):
            raise refused(
                f"{path}.makes", f"multiples of the order's period {self.order.period}", size
            )
        if small is None:
            return
        factor = size[0] // max(1, small[0])
        if factor < 1 or (small[0] * factor, small[1] * factor) != size:
            raise refused(
                f"{path}.makes", "a whole multiple of the parent, the same both ways", size
            )
        if self.parent == "subsample":
            given = group_map(self.order, *size) == GIVEN
            corners = np.zeros_like(given)
            corners[::factor, ::factor] = True
            if (given != corners).any():
                raise refused(
                    f"{path}.scheme.order.groups",
                    f"{GIVEN} at the top left of each {factor}x{factor} cell and nowhere else",
                    list(self.order.groups[:8]),
                )


def refused(field: str, expected: str, got: object) -> ManifestError:
    """The error of a field."""
    return ManifestError(f"{field}: expected {expected}, got {got}", field=field)


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One run of the body.

    Attributes:
        index: its number, from 0.
        plane: the bits that it decides.
        first_digit: number of its first digit, counted over all planes.
        channels: that it decides, in order.
        targets: `[n]` int64, its pixels as flat positions, rising.
        turns: numbers of targets that may be decided at once, `[m]` int64 each: all of them, but of
            a cell whose mean is kept one after another.
    """

    index: int
    plane: Plane
    first_digit: int
    channels: tuple[int, ...]
    targets: Array
    turns: tuple[Array, ...]


@lru_cache(maxsize=32)
def passes_of(
    scheme: PassScheme, size: tuple[int, int], small: tuple[int, int] | None
) -> tuple[Pass, ...]:
    """The passes of a picture.

    Args:
        scheme: of the stage, checked.
        size: height and width of the picture.
        small: of the parent, or None.
    """
    groups = group_targets(scheme.order, *size)
    turns = [turns_of(targets, size, small if scheme.keep_mean else None) for targets in groups]
    channels = [CHANNELS] if scheme.channel_passes == "heads" else [(c,) for c in CHANNELS]
    found: list[Pass] = []
    digit = 0
    for plane in planes_of(scheme.planes):
        for targets, taken in zip(groups, turns, strict=True):
            for decided in channels:
                found.append(Pass(len(found), plane, digit, decided, targets, taken))
        digit += len(plane.digit_bits)
    return tuple(found)


def turns_of(
    targets: Array, size: tuple[int, int], small: tuple[int, int] | None
) -> tuple[Array, ...]:
    """`Pass.turns` of targets `[n]` int64; no means are kept where `small` is None."""
    if small is None:
        return (np.arange(len(targets)),)
    cells = cell_of(targets, size, small)
    by_cell = np.argsort(cells, kind="stable")
    firsts = np.searchsorted(cells[by_cell], cells[by_cell])
    rank = np.empty(len(cells), np.int64)
    rank[by_cell] = np.arange(len(cells)) - firsts
    return tuple(np.flatnonzero(rank == turn) for turn in range(int(rank.max()) + 1))
