"""Commands that take hours are run with smaller parameters, or a table says why they are not."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from cascade.commands.cli import main
from tests.documents.commands import TABLE, commands, commands_of_the_table
from tests.documents.examples import NOT_RUN, RUN
from tests.documents.fences import ROOT, fences
from tests.documents.workspace import PREPARATIONS, make_workspace, surroundings


def test_every_command_has_an_entry() -> None:
    """A new line of such a block is run, or has a reason."""
    shown = commands_of_the_table()
    missing = [c for c in shown if c not in RUN and c not in NOT_RUN]
    assert not missing, (
        f"{TABLE}: add to RUN an Example for each of {missing} (what runs instead, what it makes "
        "or prints), or to NOT_RUN why a machine like CI's cannot run it"
    )
    stale = [c for c in (*RUN, *NOT_RUN) if c not in shown]
    assert not stale, f"{TABLE}: no document shows {stale}; take the entries away"


def test_what_a_command_is() -> None:
    """Comments, prompts and joined lines are taken apart; output is no command."""
    text = "words\n```\n$ cascade a  # why\n0d7c\ncascade b && cascade c \\\n  --d\n```\n"
    (fence,) = fences("x.md", text)
    assert commands(fence) == ["cascade a", "cascade b", "cascade c --d"]


def marked(command: str) -> object:
    """The command as a case; one that needs a package is to be run where torch is."""
    marks = [pytest.mark.torch] if RUN[command].needs else []
    return pytest.param(command, marks=marks, id=command[:70])


@pytest.mark.parametrize("command", [marked(command) for command in RUN])
def test_a_command_does_what_its_document_says(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ends with 0, prints what it should, and leaves the files that it names.

    In this process: ten would load torch for six seconds each. Pages run such commands in a shell.
    """
    example = RUN[command]
    if example.needs and not any(find_spec(name) for name in example.needs):
        pytest.skip(f"needs {' or '.join(example.needs)}")
    make_workspace(tmp_path)
    for name in example.prepare:
        PREPARATIONS[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in surroundings(tmp_path).items():
        monkeypatch.setenv(name, value)
    for line in example.instead.split(" && "):
        program, *arguments = shlex.split(line)
        assert (program, main(arguments)) == ("cascade", 0), line
    printed = capsys.readouterr()
    assert example.says in printed.out + printed.err
    for name in example.makes:
        assert (tmp_path / name).stat().st_size > 0, f"{example.instead} left no {name}"


def test_modules_that_documents_name_are_there() -> None:
    """`python -m benchmarks.x` in running text, too."""
    named: set[str] = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        named |= set(re.findall(r"python -m ([a-z0-9_.]+[a-z0-9_])", path.read_text()))
    assert {"benchmarks.latency", "benchmarks.arm64"} <= named
    assert [name for name in sorted(named) if find_spec(name) is None] == []
