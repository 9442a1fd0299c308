"""Records from JSON and back: what fits comes back equal, what does not is refused by its path."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.codecs.strict_json import from_json, to_json
from cascade.errors import ManifestError

QUICK = settings(derandomize=True, deadline=None, max_examples=60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A nested record."""

    size: int
    label: str = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """One field of every kind that a record may hold."""

    count: int
    ratio: float
    flag: bool
    kind: Literal["a", "b"]
    axes: tuple[int | str, ...]
    part: Part
    parts: tuple[Part, ...]
    notes: dict[str, str | float]
    maybe: float | None = None


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PARTS = st.builds(Part, size=st.integers(), label=st.text())
WHOLES = st.builds(
    Whole,
    count=st.integers(),
    ratio=NUMBERS,
    flag=st.booleans(),
    kind=st.sampled_from(["a", "b"]),
    axes=st.lists(st.integers() | st.text()).map(tuple),
    part=PARTS,
    parts=st.lists(PARTS).map(tuple),
    notes=st.dictionaries(st.text(), st.text() | NUMBERS),
    maybe=st.none() | NUMBERS,
)


def sample() -> dict[str, Any]:
    """A fitting document."""
    return {
        "count": 3,
        "ratio": 0.5,
        "flag": True,
        "kind": "a",
        "axes": [1, "batch"],
        "part": {"size": 1},
        "parts": [{"size": 2, "label": "x"}],
        "notes": {"who": "me", "much": 2.0},
    }


@QUICK
@given(WHOLES)
def test_what_is_written_is_read_back(whole: Whole) -> None:
    """Any record survives the way through JSON text."""
    assert from_json(Whole, json.loads(json.dumps(to_json(whole)))) == whole


def test_defaults_fill_the_gaps() -> None:
    """A field with a default may be left out."""
    whole = from_json(Whole, sample())
    assert (whole.maybe, whole.part.label) == (None, "none")


def test_a_whole_number_is_a_float() -> None:
    """Other writers print 2.0 as 2: it is read as the float that the record wants."""
    ratio = from_json(Whole, {**sample(), "ratio": 2}).ratio
    assert (ratio, type(ratio)) == (2.0, float)


@pytest.mark.parametrize(
    "name", [f.name for f in dataclasses.fields(Whole) if f.default is dataclasses.MISSING]
)
def test_a_missing_field_is_named(name: str) -> None:
    """Every field without a default is required."""
    value = sample()
    del value[name]
    with pytest.raises(ManifestError, match="missing") as caught:
        from_json(Whole, value)
    assert caught.value.field == f"manifest.{name}"


@pytest.mark.parametrize(
    ("place", "path"),
    [((), "manifest"), (("part",), "manifest.part"), (("parts", 0), "manifest.parts[0]")],
)
def test_an_unknown_field_is_named(place: tuple[str | int, ...], path: str) -> None:
    """A field that the record does not have is refused at any depth."""
    value = sample()
    inner: Any = value
    for step in place:
        inner = inner[step]
    inner["surprise"] = 1
    with pytest.raises(ManifestError, match="unknown field 'surprise'") as caught:
        from_json(Whole, value)
    assert caught.value.field == f"{path}.surprise"


@pytest.mark.parametrize(
    ("name", "wrong", "path"),
    [
        ("count", 1.0, "count"),
        ("count", True, "count"),
        ("count", "1", "count"),
        ("count", None, "count"),
        ("ratio", "1", "ratio"),
        ("ratio", False, "ratio"),
        ("ratio", float("nan"), "ratio"),
        ("ratio", float("inf"), "ratio"),
        ("ratio", -float("inf"), "ratio"),
        ("ratio", 10**400, "ratio"),
        ("flag", 1, "flag"),
        ("kind", "c", "kind"),
        ("kind", ["a"], "kind"),
        ("axes", "batch", "axes"),
        ("axes", [1, None], "axes[1]"),
        ("axes", [True], "axes[0]"),
        ("part", 1, "part"),
        ("part", {"size": "1"}, "part.size"),
        ("parts", {}, "parts"),
        ("parts", [{"size": 1}, {}], "parts[1].size"),
        ("notes", [], "notes"),
        ("notes", {"who": []}, "notes.who"),
        ("maybe", "1", "maybe"),
    ],
)
def test_a_mistyped_field_is_named(name: str, wrong: Any, path: str) -> None:
    """A value of another type is refused, and the error's field is its path."""
    with pytest.raises(ManifestError) as caught:
        from_json(Whole, {**sample(), name: wrong})
    assert caught.value.field == f"manifest.{path}"


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_a_record_is_an_object(value: Any) -> None:
    """A document that is no JSON object is refused by type."""
    with pytest.raises(ManifestError, match=f"got {type(value).__name__}"):
        from_json(Whole, value)


def test_messages_stay_short() -> None:
    """A huge wrong value does not fill the error message."""
    with pytest.raises(ManifestError) as caught:
        from_json(Whole, {**sample(), "count": "x" * 100_000})
    assert len(str(caught.value)) < 200
