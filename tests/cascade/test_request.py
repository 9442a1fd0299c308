"""The request's bounds: the edge itself is allowed, one step beyond names its field."""

from typing import Any

import numpy as np
import pytest

from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest, Handoff

NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", None),
        ("prompt", "x"),
        ("prompt", "x" * 1000),
        ("prompt", "two\nlines\twith a tab\r"),
        ("prompt", "яблоко 🍎"),
        ("seed", 0),
        ("seed", 2**64 - 1),
        ("image_index", 2**32 - 1),
        ("preview_every", 0),
        ("preview_every", 1000),
        ("previews", 0),
        ("previews", 1000),
        ("label", 0),
        ("label", 2**31 - 1),
        ("options", {"base": DiffusionOptions(steps=1, guidance=0.0, augmentation=0.0)}),
        ("options", {"base": DiffusionOptions(steps=1000, guidance=100.0, augmentation=1.0)}),
    ],
)
def test_the_edges_are_allowed(name: str, value: Any) -> None:
    """The documented bounds themselves are accepted."""
    assert getattr(GenerateRequest(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n\t "),
        ("prompt", "x" * 1001),
        ("prompt", "a\x00b"),
        ("prompt", "a\x1bb"),
        ("prompt", "a\udcffb"),
        ("prompt", "\ud800"),
        ("seed", -1),
        ("seed", 2**64),
        ("image_index", -1),
        ("image_index", 2**32),
        ("preview_every", -1),
        ("preview_every", 1001),
        ("previews", -1),
        ("previews", 1001),
        ("label", -1),
        ("label", 2**31),
    ],
)
def test_beyond_the_edges_the_field_is_named(name: str, value: Any) -> None:
    """One step beyond a bound is refused, and the error says which field."""
    with pytest.raises(InvalidRequest, match=f"^{name}: ") as caught:
        GenerateRequest(**{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -1),
        ("steps", 1001),
        ("guidance", -0.1),
        ("guidance", 100.1),
        ("guidance", NAN),
        ("guidance", float("inf")),
        ("augmentation", -0.1),
        ("augmentation", 1.1),
        ("augmentation", NAN),
    ],
)
def test_options_are_checked_by_stage(name: str, value: float) -> None:
    """An option out of bounds is refused with the stage in its path."""
    options = {"base": DiffusionOptions(), "sr256": DiffusionOptions(**{name: value})}
    with pytest.raises(InvalidRequest) as caught:
        GenerateRequest(options=options)
    assert caught.value.field == f"options.sr256.{name}"


def test_options_default_to_the_bundle() -> None:
    """A stage that nothing was asked of has no choices of its own."""
    asked = DiffusionOptions(steps=4)
    request = GenerateRequest(options={"base": asked})
    assert request.options.get("base") is asked
    assert request.options.get("sr256") is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"prompt": "a", "label": 1}, "label"),
        ({"prompt": "a", "picture": np.zeros((2, 2, 3), np.uint8)}, "picture"),
        ({"label": 0, "picture": np.zeros((2, 2, 3), np.uint8)}, "picture"),
    ],
)
def test_a_request_begins_with_one_thing(given: dict[str, Any], field: str) -> None:
    """A second starting point is refused by its name."""
    with pytest.raises(InvalidRequest, match="begins with one of them") as caught:
        GenerateRequest(**given)
    assert caught.value.field == field


def test_what_a_request_begins_with() -> None:
    """Prompt, label or picture, or nothing, as the first component gets it."""
    picture = np.zeros((2, 2, 3), np.uint8)
    assert GenerateRequest(prompt="a").start == Handoff(prompt="a")
    assert GenerateRequest(label=3).start == Handoff(label=3)
    assert GenerateRequest(picture=picture).start.image is picture
    assert GenerateRequest().start == Handoff()


@pytest.mark.parametrize(
    ("asked", "total", "at"),
    [
        ({}, 10, []),
        ({"previews": 1}, 10, [5]),
        ({"previews": 3}, 10, [3, 6, 9]),
        ({"previews": 4}, 10, [2, 4, 6, 8]),
        ({"previews": 8}, 4, [1, 2, 3]),
        ({"previews": 8}, 1, []),
        ({"previews": 8}, 4096, [456 * n for n in range(1, 9)]),
        ({"preview_every": 4}, 10, [4, 8]),
        ({"preview_every": 1, "previews": 1}, 10, [5]),
    ],
)
def test_previews_are_a_number_per_stage(asked: dict[str, int], total: int, at: list[int]) -> None:
    """Evenly spaced, at most as many as asked for, and none of the finished picture."""
    request = GenerateRequest(**asked)
    found = [done for done in range(1, total + 1) if request.wants_preview(done, total)]
    assert found == at
