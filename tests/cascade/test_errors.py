"""The tree of errors: its codes, its names and the drawing in its module's docstring."""

import inspect
import re

import pytest

from cascade import errors
from cascade.errors import CascadeError, InvalidRequest, ServerBusy

TREE = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, CascadeError)]
EACH = pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)

# Every status code of gRPC but OK, from its public specification.
GRPC_CODES = {
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
}


def drawn_tree() -> dict[str, tuple[str, str]]:
    """Each class of the docstring's drawing with its parent and its code, drawn or inherited."""
    tree: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if not re.match(r"    [|`A-Z]", line):
            continue
        entry = line.lstrip(" |`-")
        depth = (len(line) - len(entry) - 4) // 3
        name, *words = entry.split()
        parent = above[depth - 1] if depth else "Exception"
        drawn = words[0] if words and words[0].isupper() else ""
        tree[name] = (parent, drawn or (tree[parent][1] if depth else "UNKNOWN"))
        above[depth:] = [name]
    return tree


def test_the_drawing_is_the_tree() -> None:
    """The docstring draws every class, under its parent, with its code, and no other."""
    actual = {cls.__name__: (cls.__mro__[1].__name__, cls.code) for cls in TREE}
    assert drawn_tree() == actual


@EACH
def test_code_is_a_grpc_status_code(cls: type[CascadeError]) -> None:
    """Every class travels as a status code that gRPC has."""
    assert cls.code in GRPC_CODES


@EACH
def test_only_the_root_and_nothing_below_it_is_unknown(cls: type[CascadeError]) -> None:
    """Every class but the root says something more precise than UNKNOWN."""
    assert (cls.code == "UNKNOWN") == (cls is CascadeError)


@EACH
def test_reason_is_upper_snake_case(cls: type[CascadeError]) -> None:
    """The reason is the class name in upper snake case: joined again it is the name."""
    reason = cls("message").reason
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", reason)
    assert "".join(word.capitalize() for word in reason.split("_")) == cls.__name__


def test_reasons_are_unique() -> None:
    """A reason names one class, so the other side can build the same error."""
    assert len({cls("message").reason for cls in TREE}) == len(TREE)


@pytest.mark.parametrize(
    ("cls", "reason"), [(InvalidRequest, "INVALID_REQUEST"), (ServerBusy, "SERVER_BUSY")]
)
def test_reason_by_hand(cls: type[CascadeError], reason: str) -> None:
    """Two reasons as the wire knows them."""
    assert cls("message").reason == reason


@EACH
def test_what_is_said_is_kept(cls: type[CascadeError]) -> None:
    """Message, field and retry time come back; without them, no field and no retry."""
    error = cls("steps: expected 1", field="steps", retry_after_s=1.5)
    assert (str(error), error.field, error.retry_after_s) == ("steps: expected 1", "steps", 1.5)
    bare = cls("gone")
    assert (str(bare), bare.field, bare.retry_after_s) == ("gone", "", None)
