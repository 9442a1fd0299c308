"""What follows from the order alone, worked out once: where a pass's values and candidates lie.

Knows positions; neither values nor networks.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cascade.pixels.copying import candidate_slots
from cascade.pixels.order import filled
from cascade.pixels.scheme import CHANNELS, Pass, PassScheme, passes_of
from cascade.pixels.slots import Slots
from cascade.types import Array

BLOCK = 4096
"""Values that are decided at once: the calls of smaller blocks take more time than their work, and
sixteen weights of each of more values leave a processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Values of a channel that are decided at once, in all `B` pictures: `m` of `B * n`.

    Attributes:
        columns: which of the pass's values: a slice, or `[m]` int64.
        answers: which rows of the heads' answers: a slice, or `[m]` int64.
        rows: in which picture, `[m]` int64.
        values: which value of it, by channel: `(y * width + x) * 3 + c`, `[m]` int64.
        slots: where they lie, `[m]` int64.
    """

    columns: slice | Array
    answers: slice | Array
    rows: Array
    values: tuple[Array, ...]
    slots: Array


@dataclass(frozen=True, slots=True, eq=False)
class PassLayout:
    """One pass of `B` pictures of `n` values per channel.

    Attributes:
        step: the pass.
        targets: `[B, most]` int64, as the body takes them.
        slots: `[B * n]` int64.
        candidates: slots of what may be copied, `[K, B * n]` int64.
        cells: slots of the parent's pixels, `[B * n]` int64; None without a parent.
        blocks: in the order in which they are decided.
    """

    step: Pass
    targets: Array
    slots: Array
    candidates: Array
    cells: Array | None
    blocks: tuple[Block, ...]


@lru_cache(maxsize=32)
def layouts_of(
    scheme: PassScheme, size: tuple[int, int], small: tuple[int, int] | None, rows: int
) -> tuple[PassLayout, ...]:
    """The passes of pictures.

    Args:
        scheme: of the stage, checked.
        size: height and width of the pictures.
        small: of their parents, or None.
        rows: `B`.
    """
    passes = passes_of(scheme, size, small)
    most = max(len(step.targets) for step in passes)
    copies = scheme.parent_copies, scheme.canvas_copies
    near = candidate_slots(copies, Slots(size, small))
    found: list[PassLayout] = []
    of_group: dict[bytes, PassLayout] = {}
    for step in passes:
        # Planes and channels go over the same groups again.
        group = step.targets.tobytes()
        if group not in of_group:
            of_group[group] = layout_of(step, Slots(size, small), near, (rows, most))
        same = of_group[group]
        found.append(
            PassLayout(step, same.targets, same.slots, same.candidates, same.cells, same.blocks)
        )
    return tuple(found)


def layout_of(step: Pass, slots: Slots, near: Array, shape: tuple[int, int]) -> PassLayout:
    """One pass.

    Args:
        step: the pass.
        slots: of a row.
        near: slots of the candidates of every pixel, `[K, H * W]` int64.
        shape: rows, and values that the body answers for.
    """
    (rows, most), targets = shape, step.targets
    return PassLayout(
        step,
        np.tile(filled(targets, most), (rows, 1)),
        slots.of_pixels(targets, rows),
        slots.in_rows(near[:, targets], rows),
        slots.of_cells(targets, rows),
        tuple(
            block_of(step, columns, slots, most)
            for turn in step.turns
            for columns in blocks_of(turn, len(targets), rows)
        ),
    )


def blocks_of(turn: Array, count: int, rows: int) -> list[slice | Array]:
    """The columns of a turn `[m]` int64 of `count` targets in all rows, `BLOCK` at a time."""
    whole = len(turn) == count
    columns = (np.arange(rows)[:, None] * count + turn).reshape(-1)
    begins = range(0, len(columns), BLOCK)
    if whole:
        return [slice(begin, min(begin + BLOCK, len(columns))) for begin in begins]
    return [columns[begin : begin + BLOCK] for begin in begins]


def block_of(step: Pass, columns: slice | Array, slots: Slots, most: int) -> Block:
    """One block: rows, values and slots of its columns, a slice or `[m]` int64."""
    count = len(step.targets)
    every = np.arange(columns.start, columns.stop) if isinstance(columns, slice) else columns
    rows, at = np.divmod(every, count)
    places = step.targets[at]
    # Of one picture, or of full ones, the answers of all values follow each other.
    follow = isinstance(columns, slice) and (count == most or rows[-1] == 0)
    return Block(
        columns,
        columns if follow else rows * most + at,
        rows,
        tuple(places * len(CHANNELS) + channel for channel in CHANNELS),
        places + slots.cells + rows * slots.width,
    )
