"""White corners: a grey pixel in a corner is counted, one in the middle is not."""

import numpy as np

from benchmarks.white_corners import corner_facts, corners, facts_by_size


def test_a_corner_is_a_sixteenth_of_the_width() -> None:
    """Four of them, top left first, bottom right last."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:2, :2], picture[-1, -1] = 7, 9
    found = corners(picture)
    assert found.shape == (4, 2, 2, 3)
    assert (found[0] == 7).all()
    assert not found[1:3].any()
    assert found[3, 1, 1].tolist() == [9, 9, 9]


def test_one_grey_pixel_in_a_corner() -> None:
    """It costs its picture a white corner; what lies between the corners costs nothing."""
    clean = np.full((64, 64, 3), 255, np.uint8)
    clean[30:34, 30:34] = 0
    grey = clean.copy()
    grey[0, 63, 1] = 250
    facts = corner_facts([clean, grey])
    assert (facts.pictures, facts.four_white_corners, facts.least) == (2, 1, 250)
    assert facts.corner_pixels_white == 1 - 1 / 128
    assert facts.white_share == 1 - 16.5 / 64**2
    assert facts.mean == 255 - 5 / (2 * 64 * 3)


def test_facts_are_by_size() -> None:
    """Of the pictures of every prompt, one size after the other."""
    white = [np.full((size, size, 3), 255, np.uint8) for size in (16, 64)]
    found = facts_by_size([white, white])
    assert {size: facts.pictures for size, facts in found.items()} == {16: 2, 64: 2}
    assert all(facts.deviation == 0 for facts in found.values())
