"""Every variable of the environment that a program of ours reads or sets, found in the source.

Knows how Python reads one; what each means is a table here, which has to be complete.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.reference_pages.markdown import ROOT, modules, table, tree

MAPPINGS = ("environ", "environment")
MEANINGS = {
    "CASCADE_BUNDLE": ("read", "the bundle where no command line names one"),
    "CASCADE_HINTS": ("read", "`off`: no hint about an unused card or unmeasured engines"),
    "CASCADE_TOKEN": ("read", "bearer token of commands that take `--server`"),
    "XDG_CACHE_HOME": ("read", "absolute folder of the caches; `edge-cascade` below it holds "
                       "measurements of `cascade tune` and of links, and built engines. "
                       "Default: `~/.cache`"),
    "TMPDIR": ("read", "first folder tried for the socket of a private server"),
    "XDG_RUNTIME_DIR": ("read", "second folder tried for that socket"),
    "NO_COLOR": ("read", "set to anything: `cascade doctor` prints without colours"),
    "TERM": ("read", "`dumb`: progress is printed as lines and not redrawn"),
    "GRPC_VERBOSITY": ("set unless set", "`NONE` in `cascade serve` and `cascade doctor`; set "
                       "`INFO` or `DEBUG` for gRPC's own log"),
    "ORT_DISABLE_TELEMETRY": ("set unless set", "`1`: ONNX Runtime sends no telemetry"),
    "RAY_AUTH_TOKEN": ("set unless set", "with `--executor ray`: the token of the cluster that the "
                       "server starts"),
    "RAY_USAGE_STATS_ENABLED": ("set unless set", "`0` with `--executor ray`: Ray sends no usage "
                                "reports"),
    "HF_HUB_OFFLINE": ("set", "`1` during `cascade export --from`"),
    "TRANSFORMERS_OFFLINE": ("set", "`1` during `cascade export --from`"),
    "HF_HUB_DISABLE_TELEMETRY": ("set", "`1` during `cascade export --from`"),
    "HF_HUB_DISABLE_PROGRESS_BARS": ("set", "`1` during `cascade export --from`"),
    "DIFFUSERS_VERBOSITY": ("set", "`error` during `cascade export --from`"),
    "TRANSFORMERS_VERBOSITY": ("set", "`error` during `cascade export --from`"),
}  # fmt: skip
"""By name: what happens to it, and what it means."""


def texts(module: ast.Module) -> dict[str, str]:
    """Constants of a module that are text."""
    found = {}
    for node in module.body:
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        found.update({t.id: v.value for t, v in pairs if isinstance(t, ast.Name) and is_text(v)})  # type: ignore[attr-defined]
    return found


def imported(module: ast.Module) -> dict[str, str]:
    """Constants of other modules of ours that a module imports."""
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            path = ROOT / f"{node.module.replace('.', '/')}.py"
            known = texts(tree(path)) if path.is_file() else {}
            found.update({a.asname or a.name: known[a.name] for a in node.names if a.name in known})
    return found


def names_of(node: ast.expr, known: dict[str, str], module: ast.Module) -> Iterator[str]:
    """The variables that an expression names: itself, a constant, or a comprehension's items."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.Name) and node.id in known:
        yield known[node.id]
    elif isinstance(node, ast.Name):
        for loop in ast.walk(module):
            is_its = isinstance(loop, ast.comprehension | ast.For)
            if is_its and isinstance(loop.target, ast.Name) and loop.target.id == node.id:
                yield from (item.value for item in ast.walk(loop.iter) if is_text(item))  # type: ignore[attr-defined]


def is_text(node: ast.AST) -> bool:
    """Whether an expression is text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_environment(node: ast.expr) -> bool:
    """Whether an expression is the environment, under one of its two names."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in MAPPINGS


def read_in(path: Path) -> set[str]:
    """Variables that a module reads or sets."""
    module = tree(path)
    known = {**imported(module), **texts(module)}
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if not is_environment(node.func.value):
                continue
            if node.func.attr == "update":
                found |= keys_of(node.args[0], module)
            elif node.args:
                found |= set(names_of(node.args[0], known, module))
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            found |= set(names_of(node.slice, known, module))
        elif isinstance(node, ast.Compare) and is_environment(node.comparators[0]):
            found |= set(names_of(node.left, known, module))
    return found


def keys_of(node: ast.expr, module: ast.Module) -> set[str]:
    """Keys of the dictionary that a module writes out under a name."""
    for each in module.body:
        targets = each.targets if isinstance(each, ast.Assign) else []
        if isinstance(each, ast.AnnAssign):
            targets = [each.target]
        named = any(getattr(t, "id", None) == getattr(node, "id", "") for t in targets)
        if named and isinstance(each.value, ast.Dict):  # type: ignore[attr-defined]
            return {key.value for key in each.value.keys if key and is_text(key)}  # type: ignore[attr-defined]
    return set()


def variables() -> dict[str, list[str]]:
    """By name: the modules that read or set it."""
    found: dict[str, list[str]] = {}
    for path in modules():
        for name in read_in(path):
            found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def environment() -> str:
    """The table.

    Raises:
        KeyError: a variable has no meaning here yet.
    """
    rows = [
        (f"`{name}`", *MEANINGS[name], ", ".join(f"`{path}`" for path in paths))
        for name, paths in sorted(variables().items())
    ]
    return table(("variable", "read or set", "meaning", "where"), rows)
