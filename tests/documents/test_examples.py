"""Every command and every Python block of the documents is run, or a table says why it is not."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.documents.commands import ROOT, Block, all_commands, blocks, commands, python_blocks
from tests.documents.examples import NOT_RUN, RUN, Example
from tests.documents.workspace import (
    PREPARATIONS,
    make_workspace,
    serving,
    shell,
    surroundings,
)

ADDRESS = re.compile(r"127\.0\.0\.1:7860")
TABLE = "tests/documents/examples.py"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder like a checkout."""
    make_workspace(tmp_path)
    return tmp_path


def test_every_command_has_an_entry() -> None:
    """A new line of a document is run, or has a reason."""
    shown = all_commands()
    missing = [c for c in shown if c not in RUN and c not in NOT_RUN]
    assert not missing, (
        f"{TABLE}: add to RUN an Example for each of {missing} (how it is run, what it makes or "
        "says), or to NOT_RUN why a machine like CI's cannot run it"
    )
    stale = [c for c in (*RUN, *NOT_RUN) if c not in shown]
    assert not stale, f"{TABLE}: no document shows {stale}; take the entries away"


def test_what_a_command_is() -> None:
    """Comments, prompts and joined lines are taken apart; output is no command."""
    text = "words\n```\n$ cascade a  # why\n0d7c\ncascade b && cascade c \\\n  --d\n```\n"
    (block,) = blocks("x.md", text)
    assert commands(block) == ["cascade a", "cascade b", "cascade c --d"]
    assert commands(Block("x.md", "python", "cascade a")) == []


def marked(command: str) -> object:
    """The command as a case; one that needs a package is to be run where torch is."""
    marks = [pytest.mark.torch] if RUN[command].needs else []
    return pytest.param(command, marks=marks, id=command[:70])


@pytest.mark.parametrize("command", [marked(command) for command in RUN])
def test_a_command_does_what_its_document_says(command: str, workspace: Path) -> None:
    """It ends with 0, says what it should, and leaves the files that it names."""
    example = RUN[command]
    if example.needs and not any(find_spec(name) for name in example.needs):
        pytest.skip(f"needs {' or '.join(example.needs)}")
    for name in example.prepare:
        PREPARATIONS[name](workspace)
    line = example.instead or command
    if example.serves:
        with serving(ADDRESS.sub("127.0.0.1:0", line), workspace) as address:
            picture = workspace / "served.png"
            request = f'cascade generate "a cat" --cut 2 --server {address} -o {picture}'
            assert shell(request, workspace).returncode == 0
        return
    if "{server}" in line:
        with serving("cascade serve --listen 127.0.0.1:0", workspace) as address:
            check(line.replace("{server}", address), example, workspace)
    else:
        check(line, example, workspace)


def check(line: str, example: Example, folder: Path) -> None:
    """Run it and look at what came of it."""
    done = shell(line, folder)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert example.says in done.stdout + done.stderr
    for name in example.makes:
        assert (folder / name).stat().st_size > 0, f"{line} left no {name}"


def test_the_python_blocks(workspace: Path) -> None:
    """That of docs/client.md, with a server of ours in the place of the one it names."""
    others = python_blocks()
    assert [b.document for b in others] == ["docs/client.md"], "run the new block here, too"
    with serving("cascade serve --listen 127.0.0.1:0", workspace) as address:
        text = others[0].text.replace('server="gpu:7860", tls=True', f'server="{address}"')
        assert address in text
        imports = "from runtime_client import Client, GenerateRequest\n"
        done = subprocess.run(
            [sys.executable, "-c", f"{imports}{text}\nassert result.image.shape == (32, 32, 3)"],
            cwd=workspace, env=surroundings(workspace), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_modules_that_documents_name_are_there() -> None:
    """`python -m benchmarks.x` in running text, too."""
    named: set[str] = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        named |= set(re.findall(r"python -m ([a-z_.]+[a-z_])", path.read_text()))
    assert {"benchmarks.latency", "benchmarks.footprint"} <= named
    assert [name for name in sorted(named) if find_spec(name) is None] == []
