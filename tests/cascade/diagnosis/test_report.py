"""The report: at most 100 columns, commands that a shell takes as they stand."""

import shlex
import subprocess

from cascade.diagnosis.findings import Topic
from cascade.diagnosis.report import COLUMNS, command_lines, summary, topic_lines

GPU = Topic("gpu")
LONG = "word " * 60
COMMAND = (
    f"cascade doctor '/a folder/{'x' * 40}' --server host:1 --tls --ca {'y' * 70} --token-file z"
)


def test_no_line_is_longer_than_a_terminal() -> None:
    """Text and commands are broken, names that are too long have a line of their own."""
    findings = [GPU.warning("name" * 8, LONG, COMMAND), GPU.error("card", LONG, f"# {LONG}")]
    lines = list(topic_lines("gpu", findings, colours=False))
    assert max(map(len, lines)) <= COLUMNS
    assert lines[0] == "gpu"
    assert "  error    card              word word" in "\n".join(lines)


def test_a_broken_command_is_still_that_command() -> None:
    """The shell joins its lines again."""
    text = "\n".join(command_lines(COMMAND.replace("cascade", "printf '%s\\n'", 1)))
    assert "\\\n" in text
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == shlex.split(COMMAND)[1:]


def test_a_comment_does_nothing_when_it_is_pasted() -> None:
    """Each of its lines is one."""
    text = "\n".join(command_lines(f"# {LONG}"))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_colours_change_no_word() -> None:
    """Without the escape sequences the lines are the same."""
    findings = [GPU.ok("card", "there"), GPU.error("error", "an error", "true")]
    plain = list(topic_lines("gpu", findings, colours=False))
    painted = "\n".join(topic_lines("gpu", findings, colours=True))
    assert painted.count("\x1b[") == 2 * 4
    for code in ("\x1b[1m", "\x1b[32m", "\x1b[31;1m", "\x1b[36m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert painted == "\n".join(plain)


def test_the_summary_counts() -> None:
    """Errors, warnings and the rest."""
    findings = [GPU.ok("a", ""), GPU.error("b", "", ""), GPU.warning("c", "", "")]
    assert summary(findings, colours=False) == "1 error, 1 warning, 1 ok"
    assert summary(findings[:1], colours=False) == "0 errors, 0 warnings, 1 ok"
