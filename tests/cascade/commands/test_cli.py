"""The command as a whole: strict names, exit codes for every error, completion of everything."""

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade import __version__
from cascade.commands.cli import build_parser, main
from cascade.commands.completion import script
from cascade.commands.errors import describe, of_the_system
from cascade.commands.exit_codes import BAD_INPUT, FAILED, exit_code
from cascade.commands.parser import CommandParser
from cascade.commands.table import COMMANDS
from cascade.errors import CascadeError, EngineError, InvalidRequest
from tests.support.command_line import cascade, lacking

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def tree(kind: type[CascadeError] = CascadeError) -> Iterator[type[CascadeError]]:
    """Every class of error."""
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def test_every_error_has_the_exit_code_of_its_row() -> None:
    """The table in the docs names each class once, and the command returns what it says."""
    listed: dict[str, int] = {}
    for line in PAGE.read_text().splitlines():
        row = re.match(r"\| `(\d+)` \|", line)
        for name in re.findall(r"`([A-Z]\w+)`", line) if row else ():
            assert name not in listed, name
            listed[name] = int(row[1]) if row else 0
    assert listed == {kind.__name__: exit_code(kind("message")) for kind in tree()}
    assert set(listed.values()) == {BAD_INPUT, FAILED}


def test_an_engine_that_names_a_flag_is_the_flags_fault() -> None:
    """It fails again; one that names none may not."""
    assert exit_code(EngineError("no such card", field="engine")) == BAD_INPUT
    assert exit_code(EngineError("out of memory")) == FAILED


def test_the_page_lists_every_exit_code() -> None:
    """Those of signals and of lost output too."""
    found = {int(code) for code in re.findall(r"^\| `(\d+)` \|", PAGE.read_text(), re.MULTILINE)}
    assert found == {0, 1, 2, 3, 129, 130, 141, 143}


def test_no_flag_may_be_abbreviated() -> None:
    """In any subcommand, in any that one of them has, and in those of every package."""
    packages = {module.partition(".")[0] for module in COMMANDS}
    assert packages == {"bench", "cascade", "runtime_client", "runtime_server", "stages", "export"}
    found = list(parsers(build_parser()))
    assert len(found) > 15
    assert [p.prog for p in found if p.allow_abbrev or not isinstance(p, CommandParser)] == []


def test_scripts_that_are_no_subcommand_abbreviate_nothing_either() -> None:
    """Benchmarks are called from documents and other scripts."""
    folder = Path(__file__).parents[3] / "benchmarks"
    texts = {path.name: path.read_text() for path in folder.glob("*.py")}
    made = {name: text.count("ArgumentParser(") for name, text in texts.items()}
    strict = {name: text.count("allow_abbrev=False") for name, text in texts.items()}
    assert made == strict
    assert sum(made.values()) > 5


@pytest.mark.parametrize("arguments", [["inspect", "--js"], ["generate", "x", "--image", "a.png"]])
def test_a_beginning_of_a_flag_is_no_flag(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """`--image a.png` was once taken for `--image-index`."""
    assert main(arguments) == BAD_INPUT
    assert "did you mean --" in capsys.readouterr().err


def test_values_that_look_like_flags_are_values() -> None:
    """A negative number, a text with a space, what follows `=` and what follows `--`."""
    parser = CommandParser(prog="x")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--name")
    args = parser.parse_args(["--seed", "-1", "--name=--odd", "--a b", "--", "--word"])
    assert (args.seed, args.name, args.words) == (-1, "--odd", ["--a b", "--word"])
    with pytest.raises(InvalidRequest, match="unknown flag --nam: did you mean --name"):
        parser.parse_args(["--nam", "x"])


@pytest.mark.parametrize("arguments", [["-V"], ["--version"]])
def test_the_version_is_printed(arguments: list[str]) -> None:
    """By `python -m cascade`, with an exit code of 0 and nothing else."""
    found = cascade(*arguments)
    assert (found.returncode, found.stdout) == (0, f"edge-cascade {__version__}\n")
    assert found.stderr == ""


def test_a_usage_is_one_line() -> None:
    """Where there are many flags it names what must be given, and leaves them to the list."""
    for parser in parsers(build_parser()):
        usage, _, rest = parser.format_help().partition("\n\n")
        assert len(usage.splitlines()) <= 4, usage
        flags = {f for a in parser._actions for f in a.option_strings if f.startswith("--")}
        assert all(flag in rest or flag in usage for flag in flags)


def shown(parser: argparse.ArgumentParser) -> dict[str, str | None]:
    """The subcommands of a parser with what its help says of each, in its order."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {action.dest: action.help for action in commands._choices_actions}


def test_the_table_says_what_the_modules_say() -> None:
    """Name, help and order of every subcommand, whether or not its module was imported."""
    assert shown(build_parser([])) == shown(build_parser())
    assert list(shown(build_parser([]))) == list(shown(build_parser()))
    assert len(shown(build_parser())) > 15


@pytest.mark.parametrize("module", COMMANDS)
def test_a_subcommand_that_is_named_has_its_flags(module: str) -> None:
    """Those of its module, and no other module's."""
    for name in COMMANDS[module]:
        full, named = (
            {parser.prog: parser.format_help() for parser in parsers(build_parser(words))}
            for words in (None, ["-V", name])
        )
        assert named[f"cascade {name}"] == full[f"cascade {name}"]
        others = {n for m, names in COMMANDS.items() if m != module for n in names}
        assert [n for n in others if named[f"cascade {n}"].count("--") > 1] == []


def complete(*words: str) -> list[str]:
    """What bash offers for the last word."""
    ask = 'source /dev/stdin; COMP_WORDS=(cascade "$@"); COMP_CWORD=$#; _cascade'
    ask += '; printf "%s\\n" "${COMPREPLY[@]}"'
    found = subprocess.run(
        ["bash", "-c", ask, "bash", *words],
        input=script(build_parser(), "bash"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr == ""
    return found.stdout.split()


def test_bash_completes_commands_flags_and_values() -> None:
    """In place, wherever the words before it lead; where files belong, it leaves them to bash."""
    assert complete("gen") == ["generate"]
    assert complete("generate", "a prompt", "--fall") == ["--fallback"]
    assert complete("generate", "--fallback", "") == ["error", "local"]
    assert complete("data", "") == ["fetch", "prepare", "words", "keywords", "-h", "--help"]
    assert complete("data", "keywords", "--o") == ["--out"]
    assert complete("completion", "z") == ["zsh"]
    assert complete("inspect", "") == []
    assert complete("generate", "--ca", "") == []


def test_everything_can_be_completed() -> None:
    """Every subcommand, and every long flag of each."""
    for parser in parsers(build_parser()):
        path = parser.prog.split()[1:]
        flags = {f for a in parser._actions for f in a.option_strings if f.startswith("--")}
        assert set(complete(*path, "--")) == flags


def test_zsh_reads_what_bash_reads() -> None:
    """After its own words for doing so."""
    parser = build_parser()
    head, _, rest = script(parser, "zsh").partition("_cascade()")
    assert "bashcompinit" in head
    assert f"_cascade(){rest}" == script(parser, "bash")


def test_an_error_is_one_line_with_its_field() -> None:
    """That of the parser names none: the message does."""
    assert describe(InvalidRequest("wrong", field="arguments")) == "error: wrong"
    assert describe(InvalidRequest("wrong", field="cut")) == "error: wrong (field: cut)"


def test_a_package_that_is_missing_is_one_line() -> None:
    """By the name that pip knows it by; no traceback, and the exit code of a missing extra."""
    done = cascade("generate", "a cat", "-o", "a.png", program=lacking("PIL"))
    assert done.returncode == BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert "the package PIL is not installed: pip install --force-reinstall pillow" in done.stderr


def test_a_module_of_ours_that_is_missing_is_a_fault() -> None:
    """Then there is nothing to install: the traceback is what helps."""
    with pytest.raises(ImportError):
        of_the_system(ImportError("no such name", name="cascade.nowhere"))
