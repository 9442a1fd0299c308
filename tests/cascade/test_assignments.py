"""`NAME=VALUE`: one for all, some by name, and everything else refused."""

import pytest

from cascade.assignments import ALL, AUTO, parse_assignment, parse_assignments


def test_a_value_alone_is_everybodys() -> None:
    """`auto` says that nobody asked for any."""
    assert parse_assignments("7", int) == {ALL: 7}
    assert parse_assignments(AUTO, int) == {ALL: None}


def test_values_by_name_may_stand_beside_one_for_all() -> None:
    """Spaces around the commas are left out."""
    assert parse_assignments("a=1, b=auto,3", int) == {"a": 1, "b": None, ALL: 3}


@pytest.mark.parametrize("text", ["", "x", "=1", "a=", "a=1,a=2", "1,2", "a=1,", "a=b=x"])
def test_other_texts_are_refused(text: str) -> None:
    """No value, no name, a name twice, a value that is none."""
    with pytest.raises(ValueError, match=r".*"):
        parse_assignments(text, int)


@pytest.mark.parametrize("text", ["", "a", "=1", "a="])
def test_an_assignment_has_two_parts(text: str) -> None:
    """The first sign parts them: a value may hold more."""
    assert parse_assignment("base=a=b") == ("base", "a=b")
    with pytest.raises(ValueError, match=r".*"):
        parse_assignment(text)
