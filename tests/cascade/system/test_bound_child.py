"""Programs that end with their parent, however that ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.system.bound_child import bound
from tests.support.serving import wait_until

PARENT = """
import subprocess, sys, time
from cascade.system.bound_child import bound
child = subprocess.Popen(bound(["/bin/sleep", "600"]), start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux ends a process with its parent"
)


def is_over(pid: int) -> bool:
    """Whether a process has ended, also where no parent has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_program_ends_with_a_parent_that_is_killed() -> None:
    """SIGKILL leaves the parent no moment to end it; a session of its own does not keep it."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep")
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: is_over(pid))


def test_a_program_is_run_as_it_is() -> None:
    """With its arguments, and its exit code is that of the child."""
    command = bound([sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b"])
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("['a b']\n", 7)


def test_a_program_whose_parent_is_gone_already_does_not_begin() -> None:
    """Between start and wish there is a moment."""
    command = bound(["/bin/echo", "begun"])
    command[4] = "1"
    found = subprocess.run(command, capture_output=True, check=False)
    assert (found.stdout, found.returncode) == (b"", 1)
