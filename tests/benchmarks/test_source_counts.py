"""The rules by which the text of a checkout is counted, each on a snippet."""

from pathlib import Path

import pytest

from benchmarks.lib.source_counts import (
    Module,
    array_functions,
    branches_on_specs,
    comment_counts,
    homonyms,
    modules_of,
    shape_names,
    wide_classes,
)

SPECS = Module(
    "cascade/spec.py",
    "class DiffusionSpec:\n    family: Literal['diffusion'] = 'diffusion'\n"
    "class WideSpec(DiffusionSpec): ...\nclass TableSpec: ...\n",
)


def module(text: str, path: str = "cascade/x.py") -> Module:
    """A file of the source."""
    return Module(path, text)


def test_modules_of_a_checkout(tmp_path: Path) -> None:
    """Packages that are there, in all their folders; neither tests nor what lies beside them."""
    for name in ("cascade/a.py", "cascade/deep/b.py", "tests/c.py", "wire/d.py", "e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n")
    assert [m.path for m in modules_of(tmp_path)] == [
        "cascade/a.py", "cascade/deep/b.py", "wire/d.py",
    ]  # fmt: skip


def test_a_class_over_twelve_methods() -> None:
    """Thirteen are too many, properties and magic ones too; a setter's second `def` is none."""
    methods = [f"    def m{i}(self): ..." for i in range(11)]
    twelve = ["class Edge:", "    def __init__(self): ...", *methods]
    setter = ["    @m1.setter", "    def m1(self, value): ..."]
    assert wide_classes([module("\n".join([*twelve, *setter]))]) == {}
    last = ["    @property", "    async def last(self): ..."]
    assert wide_classes([module("\n".join([*twelve, *last]))]) == {"cascade/x.py:Edge": 13}


def test_class_names_used_twice() -> None:
    """Nested classes count; the same name twice in one module is one place more, not another."""
    first = module("class Seat: ...\nclass Plan: ...", "cascade/a.py")
    second = module("class Outer:\n    class Seat: ...", "export/b.py")
    assert homonyms([first, second]) == {"Seat": ["cascade/a.py", "export/b.py"]}


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(x, DiffusionSpec)",
        "isinstance(x, (int, spec.DiffusionSpec))",
        "isinstance(x, DiffusionSpec | None)",
        "isinstance(x, WideSpec)",
        "isinstance(x, ComponentSpec)",
        "issubclass(kind, DiffusionSpec)",
        "type(x) is DiffusionSpec",
        "x.family == 'diffusion'",
        "x.family in ('diffusion', 'text_encoder')",
    ],
)
def test_branches_on_types_of_components(line: str) -> None:
    """Every way to ask which type of component it is."""
    assert branches_on_specs([SPECS, module(f"y = 1\nz = {line}\n")]) == ["cascade/x.py:2"]


def test_a_pattern_is_a_branch() -> None:
    """`case DiffusionSpec():` asks the same."""
    text = "match x:\n    case DiffusionSpec():\n        pass\n"
    assert branches_on_specs([SPECS, module(text)]) == ["cascade/x.py:2"]


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(x, TableSpec)",
        "isinstance(x, int)",
        "DiffusionSpec(family='diffusion')",
        "FAMILIES[x.family].cost(x)",
        "x.family == y.family",
        "entry.family == 'torch eager'",
    ],
)
def test_what_is_no_branch(line: str) -> None:
    """Other specs, construction, a look into the table."""
    assert branches_on_specs([SPECS, module(line)]) == []


@pytest.mark.parametrize("path", ["cascade/families.py", "cascade/diffusion/family.py"])
def test_families_may_ask(path: str) -> None:
    """A family knows its own type."""
    assert branches_on_specs([SPECS, module("isinstance(x, DiffusionSpec)", path)]) == []


def counted(text: str) -> list[tuple[str, bool, bool]]:
    """Name, shape in the docstring, shape in the annotation, of every function that counts."""
    types = module(
        "Batch = Annotated[NDArray[float], 'batch 3 height width']\n"
        "Times = Annotated[NDArray[float], '...']\nArray = NDArray[Any]\n"
    )
    assert shape_names(types) == {"Batch"}
    functions = array_functions([module(text)], shape_names(types))
    return [(f.where.split()[-1], f.in_docstring, f.in_annotation) for f in functions]


@pytest.mark.parametrize(
    ("docstring", "told"),
    [
        ("[batch, 3, height, width], float32 in [-1, 1].", True),
        ("height x width x 3.", True),
        ("Two of one shape.", True),
        ("In [0, 1].", False),
        ("Where it came from [1].", False),
        ("", False),
    ],
)
def test_a_shape_in_a_docstring(docstring: str, told: bool) -> None:  # noqa: FBT001
    """A range or a reference in brackets is no shape."""
    assert counted(f'def f(x: Array):\n    """{docstring}"""\n') == [("f", told, False)]


@pytest.mark.parametrize(
    ("annotation", "told"),
    [("Batch", True), ("'Batch | None'", True), ("Mapping[str, Array]", False)],
)
def test_a_shape_in_an_annotation(annotation: str, told: bool) -> None:  # noqa: FBT001
    """The vocabulary's names carry shapes; `Array` does not."""
    assert counted(f"def f(x: {annotation}): ...") == [("f", False, told)]


def test_one_array_without_a_shape_is_enough() -> None:
    """Two arrays of which one has a name: the shapes are not told."""
    assert counted("def f(x: Batch, y: Array): ...") == [("f", False, False)]


def test_functions_that_do_not_count() -> None:
    """Private ones, those of private classes, and those that take no array."""
    text = (
        "def _f(x: Array): ...\n"
        "class _P:\n    def f(self, x: Array): ...\n"
        "def g(x: int) -> Array: ...\n"
        "class Q:\n    def h(self, *x: Array): ...\n"
    )
    assert counted(text) == [("Q.h", False, False)]


def test_comments_by_package() -> None:
    """In lines that are not empty; a comment for a tool explains nothing, a docstring is none."""
    text = '"""One."""\n\nx = 1  # why\ny = 2  # noqa: E501\n# because\nz = "# no"\n'
    (counts,) = comment_counts([module(text)]).values()
    assert (counts.every, counts.explaining, counts.lines) == (3, 2, 5)
    assert counts.per_100(counts.explaining) == 40.0
