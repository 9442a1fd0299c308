"""The README's block of commands pasted at once into an interactive shell on a terminal.

A person pastes it whole: each command finds the terminal as the one before left it, the server is
asked while it is still starting, and what is left running must not hold the terminal.
"""

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.documents.commands import ROOT
from tests.documents.page_run import Ports
from tests.documents.test_readme import ACTIVATE, use_block
from tests.documents.workspace import make_workspace, surroundings

DONE = b"PASTED=0"
PATIENCE_S = 900.0
"""For each wait, on a machine that is busy with others; all of it takes some seconds."""
TUNE = "cascade tune --seconds 0.05"


def read_until(terminal: int, end: bytes | None, patience_s: float) -> bytes:
    """What the terminal shows until some bytes came, or until nothing has it open any more."""
    shown, give_up = b"", time.monotonic() + patience_s
    while end is None or end not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, give_up - time.monotonic()))
        assert ready, shown.decode(errors="replace")
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            return shown
        if not data:
            return shown
        shown += data
    return shown


def paste(terminal: int, text: str) -> None:
    """All of it at once, as the terminal of a person does: marked as pasted."""
    os.write(terminal, b"\x1b[200~" + text.encode() + b"\x1b[201~\n")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a terminal as Linux has them")
def test_the_use_block_pasted_into_a_shell(tmp_path: Path) -> None:
    """Every picture is made, and the shell and all that it started have ended."""
    make_workspace(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    # Put on the PATH by what stands in for the environment of `make demo`.
    activate = f'export PATH={Path(sys.executable).parent}:"$PATH"\n'
    (tmp_path / ACTIVATE.split()[1]).write_text(activate)
    # What tuning does, the page's own test shows; here one component is enough.
    block = Ports().inward(use_block().text).replace(TUNE, f"{TUNE} --component base")
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        environment = {**surroundings(tmp_path), "PS1": "$ ", "PYTHONPATH": str(ROOT)}
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)  # noqa: S606
    try:
        read_until(terminal, b"$ ", PATIENCE_S)
        paste(terminal, block)
        os.write(terminal, b"echo PAS''TED=$?\n")
        shown = read_until(terminal, DONE, PATIENCE_S)
        assert b"error: " not in shown, shown.decode(errors="replace")
        os.write(terminal, b"exit\n")
        # A server that was left would hold the terminal open, and this would wait for it.
        read_until(terminal, None, PATIENCE_S)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        process = 0
    finally:
        os.close(terminal)
        if process:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    made = {path.name for path in tmp_path.glob("*.png")}
    assert made == {"apple.png", "robot.png", "again.png", "cactus.png"}
