"""Counts over the text of a checkout: classes, branches on spec types, shapes, comments, names.

Reads files and parses them; imports nothing of what it counts, so that any checkout of ours can be
given, also one that lies in other folders. What each count means is said at its function; the
figures are `benchmarks.structure`'s.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGES = (
    "cascade", "wire", "runtime_client", "runtime_server", "bench",
    "stages", "export", "benchmarks",
)  # fmt: skip
"""Packages of the source; those that a checkout does not have are left out."""
SHAPED_PACKAGES = ("cascade", "export")
"""Packages whose public functions must say the shapes of their arrays."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MAX_METHODS = 12
FAMILY_FILES = ("family.py", "families.py")
"""Where a spec's type may be asked for."""
ARRAYS = re.compile(r"\b(NDArray|ndarray|Array|ArrayLike|Tensor|torch\.Tensor)\b")
"""What an annotation that holds an array is made of."""
SHAPE = re.compile(
    r"\[(?=[^\[\]\n]*[a-z])[\w ,.*+/]+\]"  # [batch, 3, height, width], not the range [-1, 1]
    r"|\b[\w.]+ ?[x×] ?[\w.]+ ?[x×] ?\w+\b"  # height x width x 3
    r"|\bshapes?\b|\bscalars?\b|\b(one|two|three|four)-dimensional\b",
    re.IGNORECASE,
)
"""A shape in a docstring: in brackets, with crosses, or by the word."""
DIRECTIVE = re.compile(r"#\s*(noqa|ruff:|type:|fmt:|pragma|mypy:|!)")
"""Comments for tools, which explain nothing."""


@dataclass(frozen=True)
class Module:
    """One file of the source."""

    path: str
    """Below the checkout, with `/`."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parsed."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree: a walk takes longer than parsing, and each count needs one."""
        return tuple(ast.walk(self.tree))

    @property
    def package(self) -> str:
        """The top folder."""
        return self.path.partition("/")[0]


def modules_of(root: Path, packages: tuple[str, ...] = PACKAGES) -> list[Module]:
    """Every Python file of these packages, in order of path."""
    return [
        Module(path.relative_to(root).as_posix(), path.read_text())
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    ]


def classes_of(module: Module) -> list[ast.ClassDef]:
    """Every class that is defined in it, nested ones too."""
    return [node for node in module.nodes if isinstance(node, ast.ClassDef)]


def wide_classes(modules: list[Module]) -> dict[str, int]:
    """Classes with more than 12 methods: functions in the body, properties and magic ones too."""
    found = {}
    for module in modules:
        for node in classes_of(module):
            count = len({f.name for f in node.body if isinstance(f, FUNCTIONS)})
            if count > MAX_METHODS:
                found[f"{module.path}:{node.name}"] = count
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def homonyms(modules: list[Module]) -> dict[str, list[str]]:
    """Names of classes that two or more modules define, and those modules."""
    where: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in classes_of(module):
            where[node.name].append(module.path)
    return {name: paths for name, paths in sorted(where.items()) if len(paths) > 1}


def spec_types(modules: list[Module]) -> set[str]:
    """Types of a component in a manifest: `...Spec` with a field `family`, its own or inherited.

    The union of them, `ComponentSpec`, is one as well.
    """
    bases: dict[str, set[str]] = {}
    found = {"ComponentSpec"}
    for module in modules:
        for node in classes_of(module):
            if node.name.endswith("Spec"):
                bases[node.name] = {name for base in node.bases for name in names_in(base)}
                if any(has_family(statement) for statement in node.body):
                    found.add(node.name)
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def family_names(modules: list[Module]) -> set[str]:
    """What the field `family` of the specs may say, as the text has it: with quotes."""
    fields = [
        statement
        for module in modules
        for node in classes_of(module)
        if node.name.endswith("Spec")
        for statement in node.body
        if has_family(statement)
    ]
    constants = [c for field in fields for c in ast.walk(field) if isinstance(c, ast.Constant)]
    return {repr(c.value) for c in constants if isinstance(c.value, str)}


def has_family(statement: ast.stmt) -> bool:
    """Whether a statement of a class body declares `family`."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    return any(isinstance(t, ast.Name) and t.id == "family" for t in targets)


def names_in(node: ast.AST) -> set[str]:
    """Every name and attribute in an expression."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def branches_on_specs(modules: list[Module]) -> list[str]:
    """Places outside the families that ask which type of component it is, as `file:line`.

    `isinstance` and `issubclass` of a spec type, `case DiffusionSpec():`, `type(x) is ...`, and a
    comparison of an attribute `family` with a family's name: the same branch in other words.
    """
    specs = spec_types(modules) | family_names(modules)
    found = []
    for module in modules:
        if module.path.rpartition("/")[2] not in FAMILY_FILES:
            lines = {n.lineno for n in module.nodes if asks_type(n, specs)}
            found += [f"{module.path}:{line}" for line in sorted(lines)]
    return found


def asks_type(node: ast.AST, specs: set[str]) -> bool:
    """Whether this expression or pattern tells types of components, or names of families, apart."""
    if isinstance(node, ast.Call) and names_in(node.func) & {"isinstance", "issubclass"}:
        return any(names_in(argument) & specs for argument in node.args[1:])
    if isinstance(node, ast.MatchClass):
        return bool(names_in(node.cls) & specs)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        by_type = any(isinstance(s, ast.Call) and "type" in names_in(s.func) for s in sides)
        by_name = any(isinstance(s, ast.Attribute) and s.attr == "family" for s in sides)
        words = {ast.unparse(c) for s in sides for c in ast.walk(s) if isinstance(c, ast.Constant)}
        return (by_type and any(names_in(s) & specs for s in sides)) or (
            by_name and bool(words & specs)
        )
    return False


@dataclass(frozen=True)
class ArrayFunction:
    """One public function that takes arrays."""

    where: str
    in_docstring: bool
    in_annotation: bool


def array_functions(modules: list[Module], shaped: set[str]) -> list[ArrayFunction]:
    """Public functions and methods with an array among their parameters, and where shapes stand.

    Public is what has no underscore, in a class that has none; nested functions and overloads of
    a protocol count by their own docstring. An annotation says the shapes when every array in it
    is a name of the vocabulary with a shape.

    Args:
        modules: those of the packages that must say shapes.
        shaped: names of the vocabulary that carry a shape, of `shape_names`.
    """
    found = []
    for module in modules:
        for name, function in public_functions(module.tree):
            notes = [note for note in annotations(function) if holds_array(note, shaped)]
            if notes:
                text = ast.get_docstring(function) or ""
                found.append(
                    ArrayFunction(
                        where=f"{module.path}:{function.lineno} {name}",
                        in_docstring=bool(SHAPE.search(text)),
                        in_annotation=not any(ARRAYS.search(note) for note in notes),
                    )
                )
    return found


def shape_names(types: Module) -> set[str]:
    """Names of `cascade/types.py` that an `Annotated` gives a shape, but for `...`."""
    found = set()
    for node in types.tree.body:
        if isinstance(node, ast.Assign) and "Annotated" in names_in(node.value):
            words = [c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant)]
            if any(isinstance(word, str) and word != "..." for word in words):
                found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return found


def public_functions(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions of a module and methods of its classes, those with an underscore left out."""
    for node in tree.body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for name, function in public_functions(node):
                yield f"{node.name}.{name}", function


def annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The annotations of its parameters, as text."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [ast.unparse(a.annotation) for a in every if a.annotation is not None]


def holds_array(note: str, shaped: set[str]) -> bool:
    """Whether an annotation is of an array, or of something that holds arrays."""
    return bool(ARRAYS.search(note)) or bool(set(re.findall(r"\w+", note)) & shaped)


@dataclass(frozen=True, kw_only=True)
class Comments:
    """Comments of a package."""

    every: int
    """All `#`, docstrings not counted."""
    explaining: int
    """Those that are not for a tool."""
    lines: int
    """Lines that are not empty."""

    def per_100(self, count: int) -> float:
        """In a hundred lines that are not empty."""
        return round(100 * count / self.lines, 2)


def comment_counts(modules: list[Module]) -> dict[str, Comments]:
    """Comments by package."""
    texts: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        texts[module.package].append(module.text)
    counts = {}
    for package, parts in texts.items():
        found = [comment for text in parts for comment in comments_in(text)]
        counts[package] = Comments(
            every=len(found),
            explaining=sum(not DIRECTIVE.match(comment) for comment in found),
            lines=sum(bool(line.strip()) for text in parts for line in text.splitlines()),
        )
    return counts


def comments_in(text: str) -> list[str]:
    """Every comment of a file, with its sign."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]
