"""The baselines of the benchmark of speed make pictures, so that their times mean something."""

import numpy as np
import pytest

from benchmarks.lib.prototype_pixels import PrototypePictures
from cascade.pixels.guess import cell_sums
from cascade.pixels.pictures import Drawn
from cascade.pixels.words import words_of_digits
from tests.cascade.pixels.test_pictures import SCHEMES, SIZE, truth_of
from tests.support.hashed_heads import walked


@pytest.mark.parametrize("name", ["first stage", "2x2 of corners", "mean"])
def test_the_prototype_s_way_finishes_pictures(name: str) -> None:
    """Two at once, each as it is alone; a kept mean is kept with 256 weights too."""
    scheme = SCHEMES[name]
    _, parent = truth_of(scheme, rows=2)
    drawn = Drawn(words_of_digits(SIZE * SIZE * 3, 2, seed=3, image=0, stage=1))
    made = walked(PrototypePictures(scheme, (SIZE, SIZE), parent, rows=2), drawn)
    own = None if parent is None else parent[:1]
    assert (walked(PrototypePictures(scheme, (SIZE, SIZE), own), drawn)[0] == made[0]).all()
    if scheme.keep_mean:
        assert ((cell_sums(made, 2) + 2) // 4 == parent).all()
    assert len(np.unique(made)) > 9


def test_orders_are_compared_by_passes() -> None:
    """Four groups against a raster of as many passes as a slice has pixels, times slices."""
    pytest.importorskip("torch", reason="the extra train is not installed")
    from benchmarks.pixel_speed import of_orders

    rows = of_orders(8, rounds=1)
    assert [row["passes"] for row in rows] == [4, 64]
    assert rows[0]["times"] == 1
