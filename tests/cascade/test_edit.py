"""Edits as values: what is refused, and how a picture is brought to the sizes of stages."""

import numpy as np
import pytest

from cascade.edit import MAX_RESAMPLE, Edit, at_sizes, fitted, middle, resized, resized_flags
from cascade.errors import InvalidRequest
from cascade.types import ImageU8, PlaneU8

GREY = np.full((4, 6, 3), 100, np.uint8)
WHITE = np.full((4, 6), 255, np.uint8)


def random_picture(height: int, width: int) -> ImageU8:
    """Noise."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("strength", {"strength": 1.01}),
        ("strength", {"strength": -0.01}),
        ("strength", {"strength": float("nan")}),
        ("resample", {"mask": WHITE, "resample": 0}),
        ("resample", {"mask": WHITE, "resample": MAX_RESAMPLE + 1}),
        ("resample", {"resample": 2}),
        ("mask", {"mask": WHITE[:3]}),
        ("mask", {"mask": WHITE.astype(np.int64)}),
        ("mask", {"mask": WHITE // 2}),
        ("picture", {"picture": GREY[:, :, 0]}),
        ("picture", {"picture": GREY[:0]}),
        ("picture", {"picture": GREY / 255}),
    ],
)
def test_what_makes_no_sense_is_refused(field: str, fields: dict[str, object]) -> None:
    """Shares beyond 0 to 1, masks that do not lie on the picture or are black; by name."""
    with pytest.raises(InvalidRequest, match=rf"edit\.{field}: ") as refused:
        Edit(**{"picture": GREY, **fields})  # type: ignore[arg-type]
    assert refused.value.field == f"edit.{field}"


def test_the_default_strength_is_that_of_its_kind() -> None:
    """A mask's kept part is known as it is; without one the picture decides by the strength."""
    assert (Edit(picture=GREY).share, Edit(picture=GREY, mask=WHITE).share) == (0.7, 1.0)
    assert Edit(picture=GREY, mask=WHITE, strength=0.0).share == 0


@pytest.mark.parametrize("size", [(6, 4), (3, 2), (2, 2), (5, 3), (1, 1), (9, 7), (12, 8)])
def test_every_pixel_is_the_mean_of_its_area(size: tuple[int, int]) -> None:
    """Against pixels repeated to a grid that both sizes divide: the mean in double precision."""
    picture = random_picture(4, 6)
    fine = picture.repeat(size[1], 0).repeat(size[0], 1).astype(np.float64)
    means = fine.reshape(size[1], 4, size[0], 6, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(resized(picture, size), np.floor(means + 0.5 + 1e-9))


def test_a_pixel_is_made_anew_where_any_below_it_is() -> None:
    """So that what is kept at a small size is kept at a larger one."""
    flags = np.zeros((8, 8), bool)
    flags[3, 5] = True
    np.testing.assert_array_equal(np.argwhere(resized_flags(flags, (4, 4))), [[1, 2]])
    # The pixel lies on the border between two thirds.
    np.testing.assert_array_equal(np.argwhere(resized_flags(flags, (3, 3))), [[1, 1], [1, 2]])


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        ((10, 4), (2, 2), (slice(0, 4), slice(3, 7))),
        ((4, 11), (2, 2), (slice(3, 7), slice(0, 4))),
        ((12, 8), (3, 2), (slice(0, 8), slice(0, 12))),
        ((1, 9), (3, 2), (slice(4, 5), slice(0, 1))),
    ],
)
def test_the_middle_of_a_shape_is_taken(
    size: tuple[int, int], shape: tuple[int, int], expected: tuple[slice, slice]
) -> None:
    """As large as fits, and never nothing."""
    assert middle(size, shape) == expected


def test_a_picture_is_brought_to_the_largest_size_that_it_fills() -> None:
    """With a mask, for what is kept; without one to the size of the first stage; never changed."""
    sizes = [(2, 2), (4, 4), (8, 8)]
    picture = random_picture(5, 9)
    mask: PlaneU8 = np.zeros((5, 9), np.uint8)
    mask[:, 4] = 255
    both = fitted(Edit(picture=picture, mask=mask), sizes)
    assert both.size == (4, 4)
    assert fitted(Edit(picture=picture), sizes).size == (2, 2)
    assert fitted(Edit(picture=picture[:1, :1], mask=mask[:1, 4:5]), sizes).size == (2, 2)
    assert fitted(both, sizes) is both


def test_each_stage_sees_what_the_next_one_makes_of_it() -> None:
    """Whichever of them a machine runs: a smaller size by way of the sizes between."""
    picture = random_picture(16, 16)
    mask = np.zeros((16, 16), np.uint8)
    mask[3, 3] = 255
    sizes = [(2, 2), (4, 4), (16, 16)]
    whole = at_sizes(Edit(picture=picture, mask=mask), sizes)
    assert [edit.size for edit in whole] == sizes
    np.testing.assert_array_equal(whole[2].picture, picture)
    middle_mask = np.asarray(whole[1].redrawn, np.uint8) * 255
    alone = at_sizes(Edit(picture=whole[1].picture, mask=middle_mask), sizes[:2])
    for one, other in zip(whole, alone, strict=False):
        np.testing.assert_array_equal(one.picture, other.picture)
        assert one.redrawn is not None
        assert other.redrawn is not None
        np.testing.assert_array_equal(one.redrawn, other.redrawn)
        assert one.redrawn.any()
