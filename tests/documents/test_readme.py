"""The README: short, everything in it works as pasted, and what it names is there."""

import re
import subprocess
from importlib.util import find_spec

import pytest

from tests.documents.fences import ROOT, Fence, fences
from tests.documents.page_run import files_made, parts_of

README = (ROOT / "README.md").read_text()
ACTIVATE = "source .venv/bin/activate"


def use_block() -> Fence:
    """The command lines of a newcomer."""
    (found,) = [f for f in fences("README.md", README) if ACTIVATE in f.text]
    return found


def test_it_is_short() -> None:
    """One screen of what it is, one of how to use it, one of where things are."""
    assert len(README.splitlines()) <= 150


@pytest.mark.torch
@pytest.mark.skipif(
    find_spec("torch") is None,
    reason="looks at the environment with torch, which may still be being installed: run there",
)
def test_the_command_is_on_the_path() -> None:
    """`make demo` makes the environment that the first line activates, with the command in it."""
    assert use_block().text.splitlines()[0] == ACTIVATE
    makefile = (ROOT / "Makefile").read_text()
    assert "VENV   := .venv\n" in makefile
    assert "\ndemo: $(VENV)/.runtime\n" in makefile
    if not (ROOT / ".venv/bin/activate").exists():
        pytest.skip("no environment in this checkout")
    done = subprocess.run(
        ["/bin/bash", "-ec", f"{ACTIVATE}; command -v cascade; cascade --version"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(ROOT / ".venv/bin/cascade")


def test_its_command_lines_are_run_as_pasted() -> None:
    """`test_pages` runs the block: one shell, the server beside the others, every file is there."""
    part, *_ = parts_of("README.md")
    assert use_block() in part.blocks
    made = {name for _, name in files_made(part)}
    assert made == {"apple.png", "robot.png", "again.png", "cactus.png"}


def test_files_that_it_names_are_there() -> None:
    """Links, folders of the map, and the files to read first."""
    links = re.findall(r"\]\(([^)#]+)", README)
    quoted = re.findall(r"`([\w/.-]+(?:\.py|/))`", README)
    assert len(quoted) >= 15
    named = {name for name in (*links, *quoted) if name != ".venv/bin"}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
