"""Signals: the right exit code, no traceback, and nothing left behind, whenever they come."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from tests.support.command_line import CASCADE, PATIENCE_S, cascade, generate_here, generate_split

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
ENDING = sorted(CODES)
WHILE_IMPORTING = """
import os, sys
class Ending:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
        return None
sys.meta_path.insert(0, Ending())
from cascade.commands.cli import main
sys.exit(main())
"""
IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-c", {code!r}, *sys.argv[1:]])
"""
DROPPED = """
import os, signal, sys
from cascade.system.interruption import EndingSignals, Interrupted
class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals._raised: pass
signals = EndingSignals()
signals.raise_first()
try:
    Dropping()
    for _ in range(10**9): pass
except Interrupted as exc:
    sys.exit(exc.exit_code)
"""
WHILE_TAKING_A_LOCK = """
import os, signal, sys, threading
from cascade.system.interruption import EndingSignals, Interrupted
class Taking:
    lock = threading.Lock()
    def __enter__(self):
        self.lock.acquire()
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals._raised: pass
    def __exit__(self, *exc):
        self.lock.release()
signals = EndingSignals()
signals.raise_first()
try:
    with Taking():
        for _ in range(10**9): pass
except Interrupted as exc:
    sys.exit(1 if Taking.lock.locked() else exc.exit_code)
"""
needs_proc = pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="looks for processes in /proc"
)


def servers_of(folder: Path) -> list[int]:
    """Process ids of the servers of that bundle."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(folder).encode() in words:
            found.append(int(entry.parent.name))
    return found


def wait_until_clean(folder: Path, scratch: Path) -> None:
    """Until neither a server nor a file of its is left."""
    until = time.monotonic() + PATIENCE_S
    while servers_of(folder) or list(scratch.iterdir()):
        assert time.monotonic() < until, (servers_of(folder), list(scratch.iterdir()))
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("argparse", signal.SIGINT),
        ("cascade.system.standard_streams", signal.SIGINT),
        ("cascade.commands.parser", signal.SIGTERM),
        ("runtime_client.cli.cli", signal.SIGHUP),
        ("numpy", signal.SIGINT),
        ("runtime_client.client", signal.SIGTERM),
        ("runtime_client.local.local_stages", signal.SIGHUP),
        ("onnxruntime", signal.SIGINT),
        ("PIL.Image", signal.SIGINT),
    ],
)
def test_a_signal_during_imports_shows_no_traceback(
    bundle: Bundle, tmp_path: Path, module: str, number: signal.Signals
) -> None:
    """From the first line of ours on, however little of the program is there yet."""
    code = WHILE_IMPORTING.format(module=module, number=int(number))
    arguments = generate_here(bundle.folder, tmp_path / "a.png")
    found = cascade(*arguments, program=(sys.executable, "-c", code))
    assert found.returncode == CODES[number]
    assert "Traceback" not in found.stderr
    assert "Error" not in found.stderr
    assert list(tmp_path.iterdir()) == []


@needs_proc
@pytest.mark.parametrize("number", [*ENDING, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["text_encoder", "base"])
def test_a_run_that_is_ended_leaves_nothing(
    slow_bundle: Bundle,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    number: signal.Signals,
    moment: str,
) -> None:
    """No picture, no part of one, no server, no folder; the server's own doing after a kill -9."""
    scratch = tmp_path_factory.mktemp("s")
    arguments = generate_split(slow_bundle.folder, tmp_path / "a.png", "--steps", "base=2")
    with subprocess.Popen(
        [*CASCADE, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(moment):
                break
        assert [path.name.startswith("cascade-private-") for path in scratch.iterdir()] == [True]
        process.send_signal(number)
        said = process.stderr.read()
        code = process.wait(timeout=PATIENCE_S)
    assert "Traceback" not in said, said
    assert code == CODES.get(number, -number), said
    if number in CODES:
        assert said.splitlines()[-1] == "error: interrupted; no picture was written"
        assert list(scratch.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
    wait_until_clean(slow_bundle.folder.resolve(), scratch)


def test_what_was_ignored_stays_ignored(bundle: Bundle, tmp_path: Path) -> None:
    """`nohup`: the terminal closes, the picture comes."""
    output = tmp_path / "a.png"
    code = WHILE_IMPORTING.format(module="numpy", number=int(signal.SIGHUP))
    program = (sys.executable, "-c", IGNORING.format(code=code))
    found = cascade(*generate_here(bundle.folder, output, "--quiet"), program=program)
    assert (found.returncode, found.stderr) == (0, "")
    assert output.exists()


def test_a_signal_that_python_dropped_is_raised_again() -> None:
    """What a handler raises inside a `__del__` would otherwise be the end of it."""
    found = cascade(program=(sys.executable, "-c", DROPPED))
    assert (found.returncode, found.stderr) == (143, "")


def test_a_signal_leaves_no_lock_taken() -> None:
    """It waits until the lock belongs to a `with` that releases it: a thread waits for it."""
    found = cascade(program=(sys.executable, "-c", WHILE_TAKING_A_LOCK))
    assert (found.returncode, found.stderr) == (143, "")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_still_loads_ends_at_once(
    bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    """Nothing is in flight: nothing to wait for, and no socket to leave."""
    code = WHILE_IMPORTING.format(module="cascade.diffusion.stage", number=int(number))
    arguments = ("serve", "--bundle", str(bundle.folder), "--listen", f"unix:{tmp_path}/s.sock")
    found = cascade(*arguments, program=(sys.executable, "-c", code))
    assert found.returncode in (0, CODES[number])
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []
