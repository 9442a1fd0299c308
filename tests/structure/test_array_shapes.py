"""What an array is stands where it is named: its shape, and its dtype where no type says it."""

import ast
import re
from pathlib import Path

from benchmarks.lib.source_counts import (
    SHAPE,
    annotations,
    holds_array,
    modules_of,
    public_functions,
    shape_names,
)

ROOT = Path(__file__).parents[2]
BARE = re.compile(r"\b(Array|ArrayLike|ndarray)\b")
"""Annotations that name no dtype."""
DTYPE = re.compile(r"\b(float(16|32|64)|u?int(8|32|64)|dtypes?)\b")
ARRAYS_OF_LIBRARIES = frozenset({"relative_rms"})
"""Compare what any engine returned: every dtype is turned into float64."""


def of_arrays() -> dict[str, tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Public functions of `cascade` that take or return arrays, with their annotations."""
    modules = modules_of(ROOT, ("cascade",))
    shaped = shape_names(next(m for m in modules if m.path == "cascade/types.py"))
    shaped |= {"Times", "Time", "Words"}
    found = {}
    for module in modules:
        for name, function in public_functions(module.tree):
            notes = annotations(function)
            notes += [ast.unparse(function.returns)] if function.returns else []
            if any(holds_array(note, shaped) for note in notes):
                found[f"{module.path} {name}"] = (function, " ".join(notes))
    return found


def test_every_public_function_of_arrays_says_their_shapes() -> None:
    """In its docstring, in brackets, by its dimensions or by the word."""
    found = of_arrays()
    assert len(found) > 60
    silent = [w for w, (f, _) in found.items() if not SHAPE.search(ast.get_docstring(f) or "")]
    assert silent == []


def test_where_no_name_says_the_dtype_the_docstring_does() -> None:
    """An `Array` may be of any; the reader is told of which."""
    silent = [
        where
        for where, (function, notes) in of_arrays().items()
        if BARE.search(notes)
        and function.name not in ARRAYS_OF_LIBRARIES
        and not DTYPE.search(ast.get_docstring(function) or "")
    ]
    assert silent == []


def test_a_docstring_without_a_shape_is_seen() -> None:
    """The check itself can fail: a range in brackets is no shape."""
    assert not SHAPE.search("A picture in [-1, 1].")
    assert SHAPE.search("A picture, `[H, W, 3]` uint8.")
