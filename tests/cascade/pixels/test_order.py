"""Orders of pixels: each is a partition, and balanced where it says so."""

import numpy as np
import pytest

from cascade.errors import ManifestError
from cascade.pixels.order import (
    GIVEN,
    OrderSpec,
    at_once,
    checkerboard,
    checkerboard_ranks,
    columns_rows,
    distinct,
    group_map,
    group_targets,
    rows_columns,
    squares,
    subscale,
    subscale_raster,
    targets_of,
)

ORDERS = {
    "columns, rows": columns_rows("subsample"),
    "columns, rows of a box": columns_rows("box"),
    "rows, columns": rows_columns("subsample"),
    "2x2": squares("box"),
    "2x2 of a subsampled parent": squares("subsample"),
    "at once": at_once("box"),
    "at once of a subsampled parent": at_once("subsample"),
    "slices": subscale(4),
    "slices, raster inside": subscale_raster(8, 2),
    **{f"checkerboard {p}, {g}": checkerboard(p, g) for p in (2, 3, 4, 6, 8) for g in (1, 2, 4)},
    **{f"checkerboard {p}, {g}": checkerboard(p, g) for p in (4, 6, 8) for g in (3, 7, 8, 16)},
}


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_is_a_partition(name: str) -> None:
    """Every pixel is given or in exactly one group, and no group is empty."""
    order = ORDERS[name]
    order.check("order")
    size = 24 if order.period != 8 else 16
    found = group_targets(order, size, 2 * size)
    given = np.flatnonzero(group_map(order, size, 2 * size) == GIVEN)
    assert min(map(len, found)) > 0
    assert sorted(np.concatenate([given, *found])) == list(range(2 * size * size))


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_every_prefix_of_a_checkerboard_is_balanced(period: int) -> None:
    """Of any prefix, no aligned square of a size has more than one pixel more than another."""
    ranks = checkerboard_ranks(period)
    for prefix in range(1, period * period):
        made = (ranks < prefix).astype(int)
        side = 1
        while side < period:
            blocks = made.reshape(period // side, side, period // side, side).sum(axis=(1, 3))
            assert blocks.max() - blocks.min() <= 1
            side *= 2


@pytest.mark.parametrize(("period", "groups"), [(2, 4), (4, 4), (4, 8), (4, 16), (8, 16), (6, 9)])
def test_no_two_neighbours_are_made_in_one_pass(period: int, groups: int) -> None:
    """From four groups on, and the groups' sizes differ by one at most."""
    order = checkerboard(period, groups)
    made = group_map(order, 4 * period, 4 * period)
    sizes = [len(t) for t in group_targets(order, period, period)]
    assert max(sizes) - min(sizes) <= 1
    if period != 6:  # part of a larger one, whose cut rows may meet
        assert (made[:, 1:] != made[:, :-1]).all()
        assert (made[1:] != made[:-1]).all()


def test_the_published_order_of_a_checkerboard() -> None:
    """Four by four, by the recursion's own publication; with 4 groups the four of a 2x2 cell."""
    published = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]
    assert checkerboard_ranks(4).tolist() == published
    cells = group_map(checkerboard(4, 4), 4, 4)
    assert cells.tolist() == group_map(squares("box"), 4, 4).tolist()


def test_the_sets_of_groups_that_the_papers_draw() -> None:
    """Columns before rows, the diagonal before the rest, slices row by row."""
    assert columns_rows("subsample").groups == (GIVEN, 0, 1, 1)
    assert rows_columns("subsample").groups == (GIVEN, 1, 0, 1)
    assert squares("box").groups == (0, 2, 3, 1)
    assert subscale(2).groups == (0, 1, 2, 3)
    raster = group_map(subscale_raster(4, 2), 4, 4)
    assert raster.tolist() == [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]]


def test_short_groups_repeat_their_last_pixel() -> None:
    """So that all passes of a stage have inputs of one shape; `distinct` knows which count."""
    targets = targets_of(columns_rows("subsample"), 2, 4)
    assert targets.tolist() == [[1, 3, 3, 3], [4, 5, 6, 7]]
    assert distinct(targets).sum(axis=1).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("period", "groups"),
    [(2, (0, 1, 2)), (2, (0, 1, 3, 3)), (2, (-1, -1, -1, -1)), (2, (0, -2, 1, 1)), (0, ())],
)
def test_what_is_no_order_is_refused(period: int, groups: tuple[int, ...]) -> None:
    """A gap, nothing to make, another number, a square of another size."""
    with pytest.raises(ManifestError, match=r"order\.groups"):
        OrderSpec(period=period, groups=groups).check("order")
