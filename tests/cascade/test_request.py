"""The request's bounds: the edge itself is allowed, one step beyond names its field."""

from typing import Any

import pytest

from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest, StageOptions

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
        ("options", {"base": StageOptions(steps=1, guidance=0.0, augmentation=0.0)}),
        ("options", {"base": StageOptions(steps=1000, guidance=100.0, augmentation=1.0)}),
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
    options = {"base": StageOptions(), "sr256": StageOptions(**{name: value})}
    with pytest.raises(InvalidRequest) as caught:
        GenerateRequest(options=options)
    assert caught.value.field == f"options.sr256.{name}"


def test_options_default_to_the_bundle() -> None:
    """A stage that nothing was asked of has no choices of its own."""
    asked = StageOptions(steps=4)
    request = GenerateRequest(options={"base": asked})
    assert request.options_for("base") is asked
    assert request.options_for("sr256") == StageOptions(steps=None, guidance=None)
