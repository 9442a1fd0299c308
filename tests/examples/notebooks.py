"""Run the code cells of a notebook in order, as Jupyter does, without Jupyter.

    python -m tests.examples.notebooks examples/first_picture.ipynb    # store the outputs anew

Takes what cells print and the picture that a cell ends with. Knows the file's format and Python;
not what a cell does.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

Json = dict[str, Any]


def read(path: Path) -> Json:
    """A notebook."""
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def code_cells(notebook: Json) -> list[Json]:
    """Its cells of code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(notebook: Json) -> list[list[Json]]:
    """The outputs of every cell of code, run in one namespace and in the present folder."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [run_cell("".join(cell["source"]), names) for cell in code_cells(notebook)]


def run_cell(source: str, names: dict[str, Any]) -> list[Json]:
    """What one cell prints, and its last expression where that is a picture."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102  the notebook is ours
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
    outputs: list[Json] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if isinstance(value, Image.Image):
        outputs.append(shown(value))
    return outputs


def shown(picture: Image.Image) -> Json:
    """A picture as an output."""
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    data = {"image/png": base64.b64encode(out.getvalue()).decode(), "text/plain": ["<PIL image>"]}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def picture_of(output: Json) -> Image.Image:
    """The picture of an output."""
    return Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))).convert("RGB")


def store(path: Path) -> None:
    """Run a notebook in its folder and write the outputs into it."""
    notebook = read(path)
    os.chdir(path.parent)
    outputs = run_cells(notebook)
    for number, (cell, made) in enumerate(zip(code_cells(notebook), outputs, strict=True), 1):
        cell["outputs"], cell["execution_count"] = made, number
    Path(path.name).write_text(json.dumps(notebook, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    store(Path(sys.argv[1]))
