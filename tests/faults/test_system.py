"""Faults of the machine around the server: clocks, disks, descriptors, stopped processes."""

import ast
import contextlib
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from tests.support.asking import DOOMED, answer, asking, asking_long, differs
from tests.support.server_process import Victim, serve_command, victim
from tests.support.serving import Caller, connect, pixels, results_of, wait_until

ROOT = Path(__file__).resolve().parents[2]
WALL_CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}
TELL_THE_TIME = ("traces.py", "doctor_server.py", "door.py", "planner.py")
"""What only says when something was or will be: spans, dates in certificates and tokens, when a
picture was made over HTTP, and how old a measurement of another day is."""
STOPPED_S = 5
SPARE_FILES = 8


def draws(server: Victim, caller: Caller) -> None:
    """The server still makes the right picture."""
    picture = pixels(results_of(caller.generate(asking(server.bundle)))["sr32"].image)
    assert not differs(picture, answer(server.bundle))


@pytest.mark.parametrize("package", ["runtime_server", "runtime_client", "cascade"])
def test_no_decision_reads_the_wall_clock(package: str) -> None:
    """35. A clock that jumps moves no deadline: only monotonic time is read."""
    found = []
    paths = [p for p in sorted((ROOT / package).rglob("*.py")) if p.name not in TELL_THE_TIME]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if (node.value.id, node.attr) in WALL_CLOCKS:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_a_full_disk_for_the_log_costs_only_the_log(bundle: Bundle, tmp_path: Path) -> None:
    """35. Standard error on a full disk: requests are served all the same."""
    address = f"unix:{tmp_path / 's.sock'}"
    options = ("--listen", address, "--log-level", "debug")
    server = Victim(bundle, *options, stderr=Path("/dev/full"))
    try:
        wait_until(lambda: accepts(tmp_path / "s.sock"), 120)
        with connect(address) as caller:
            for _ in range(3):
                draws(server, caller)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.kill()


def accepts(path: Path) -> bool:
    """Whether something listens on that socket."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def test_files_that_cannot_grow_cost_no_request(bundle: Bundle) -> None:
    """35. No file may grow by a byte (caches, anything): requests are served all the same."""
    with victim(bundle) as server, connect(server.address) as caller:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        draws(server, caller)


def test_no_descriptors_left_is_survived(bundle: Bundle) -> None:
    """35. All descriptors taken by idle connections: open ones go on, new ones work again later."""
    with victim(bundle) as server, connect(server.address) as caller:
        caller.server_info()
        limit = server.open_files + SPARE_FILES
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        host, _, port = server.address.rpartition(":")
        crowd = [socket.create_connection((host, int(port))) for _ in range(4 * SPARE_FILES)]
        wait_until(lambda: server.open_files >= limit - 1)
        draws(server, caller)
        for one in crowd:
            one.close()
        wait_until(lambda: server.open_files < limit - SPARE_FILES // 2)
        with connect(server.address) as another:
            draws(server, another)


def test_few_descriptors_are_enough(bundle: Bundle) -> None:
    """35. Under `ulimit -n 64` from its start the server serves, or says why not in one line."""
    command = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *serve_command(bundle)]
    with victim(bundle, command=command) as server, connect(server.address) as caller:
        draws(server, caller)


def test_a_stopped_server_goes_on_where_it_was(slow: Victim, slow_caller: Caller) -> None:
    """35. SIGSTOP for five seconds in mid-request: the picture is right, a deadline expires."""
    steps = (("base", 1), ("sr16", 40), ("sr32", 40))
    call = slow_caller.generate(asking(slow.bundle, dict(steps), seed=9), timeout_s=300)
    next(call)
    brief = slow_caller.generate(asking_long(slow.bundle), timeout_s=STOPPED_S - 1)
    next(brief)
    slow.signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    slow.signal(signal.SIGCONT)
    with pytest.raises(grpc.RpcError) as late:
        list(brief)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    picture = pixels(results_of(call)["sr32"].image)
    assert not differs(picture, answer(slow.bundle, 9, steps))


def test_a_stopped_client_holds_nobody_up(slow: Victim, slow_caller: Caller) -> None:
    """35. SIGSTOP of a client in mid-stream: others are served, and its death frees its place."""
    request = asking_long(slow.bundle)
    with subprocess.Popen(
        [sys.executable, "-c", DOOMED, slow.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(request.SerializeToString())
        client.stdin.close()
        assert client.stdout.readline() == b"begun\n"
        client.send_signal(signal.SIGSTOP)
        assert slow_caller.server_info().components
        client.send_signal(signal.SIGKILL)
    slow.wait_until_idle()
    draws(slow, slow_caller)
