"""Pictures in other colours: which can be turned, to what, and what they are called then."""

import numpy as np
import pytest

from benchmarks.lib.prompt_lists import read_sheet_prompts
from cascade.types import ImageU8
from stages.data.dataset import read_concepts
from stages.data.recolour import (
    ASKED_BY_THE_SHEETS,
    HUES,
    KEPT_SHARE,
    PALE,
    apart,
    bare_name,
    coloured_caption,
    hsv,
    is_kept_pair,
    main_hue,
    nearest_colour,
    other_colours,
    recoloured,
)

ICONS = [
    "red-apple",
    "green-apple",
    "red-heart",
    "blue-heart",
    "yellow-heart",
    "grapes",
    "cat-face",
]


def disc(*colours: tuple[int, int, int]) -> ImageU8:
    """White with one stripe of each colour and a grey one."""
    pixels = np.full((40, 40, 3), 255, np.uint8)
    for place, colour in enumerate((*colours, (90, 90, 90))):
        pixels[6 + 6 * place : 12 + 6 * place, 5:35] = colour
    return pixels


RED = disc((220, 30, 20), (180, 20, 15), (230, 60, 40))


def test_hues_apart() -> None:
    """Around the circle the shorter way."""
    assert apart(350, 10) == apart(10, 350) == 20
    assert apart(0, 180) == 180
    assert [nearest_colour(h) for h in (355, 30, 120, 200)] == ["red", "orange", "green", "blue"]


def test_the_main_hue() -> None:
    """Found where one hue covers most of the ink; none of two opposite ones or of hardly any."""
    hue = main_hue(RED)
    assert hue is not None
    assert apart(hue, 5) < 5
    assert main_hue(disc((220, 20, 20), (20, 200, 200))) is None
    assert main_hue(disc((100, 100, 100), (50, 52, 50), (220, 30, 20))) is None
    assert main_hue(np.full((8, 8, 3), 255, np.uint8)) is None


@pytest.mark.parametrize("colour", HUES)
def test_a_turned_picture_has_the_colour(colour: str) -> None:
    """Its main hue is the colour's, within the steps of 8 bits; white and grey stay to the bit."""
    turned = recoloured(RED, main_hue(RED) or 0.0, colour)
    found = main_hue(turned)
    assert found is not None
    assert apart(found, HUES[colour]) < 3
    assert nearest_colour(found) == colour
    neutral = hsv(RED)[..., 1] == 0
    np.testing.assert_array_equal(turned[neutral], RED[neutral])
    if colour not in PALE:
        # Shading stays: the strongest channel of every pixel is what it was, but for rounding.
        assert np.abs(turned.max(-1).astype(int) - RED.max(-1)).max() <= 1


def test_colours_that_there_are_not_yet() -> None:
    """Not its own, not one that the list has; nothing of what comes in many colours."""
    assert other_colours("red-apple", RED, ICONS) == ["yellow", "blue", "purple", "pink"]
    assert other_colours("red-heart", RED, ICONS) == []
    grey = disc((90, 90, 90))
    assert other_colours("cat-face", grey, ICONS) == []


@pytest.mark.parametrize(
    ("said", "colour", "icon"),
    [
        ("a blue apple, noto style", "blue", "red-apple"),
        ("an orange cat face, noto style", "orange", "cat-face"),
        ("green grapes, noto style", "green", "grapes"),
    ],
)
def test_coloured_captions(said: str, colour: str, icon: str) -> None:
    """A colour in front takes the place of that of the name; plurals take no article."""
    assert coloured_caption(colour, icon, "noto") == said


def test_pairs_are_kept_back() -> None:
    """A share of all, in every style at once, and those that the sheets ask for."""
    names = {bare_name(icon) for icon in read_concepts()}
    kept = np.mean([is_kept_pair(colour, name) for colour in HUES for name in names])
    assert kept == pytest.approx(1 / KEPT_SHARE, abs=0.06)
    assert all(is_kept_pair(*pair) for pair in ASKED_BY_THE_SHEETS)


def test_the_sheets_ask_for_pairs_that_no_caption_has() -> None:
    """Whatever combination of a colour and a name they ask for is kept back."""
    concepts = read_concepts()
    names = {bare_name(icon) for icon in concepts}
    asked = 0
    for prompt in read_sheet_prompts()["combinations"]:
        words = prompt.partition(", ")[0].removeprefix("a ").removeprefix("an ")
        colour, _, thing = words.partition(" ")
        for name in {thing, f"{thing} face"} & names:
            assert colour not in HUES or is_kept_pair(colour, name), prompt
            asked += colour in HUES
    assert asked == len(ASKED_BY_THE_SHEETS)
