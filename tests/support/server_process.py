"""A server process that faults are done to, and everything that can be seen of it from outside.

Its log, its counters, its memory, its open files. Knows the command line and the wire; imports
nothing of the server.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import Bundle
from tests.support.serving import connect, wait_until

READY_WITHIN_S = 600.0
IDLE_WITHIN_S = 60.0
ALIVE: "list[Victim]" = []
"""Those that run now; after every test each of them must be empty."""

WORK = ("in_flight", "running", "in_flight_bytes", "queue_depth")
KEPT = ("results", "result_bytes", "contexts", "context_bytes")
BRIEFLY = ("--result-lifetime-s", "0.2", "--context-lifetime-s", "0.2")
"""For victims of which also what they keep must be gone soon."""

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
Labels = frozenset[tuple[str, str]]


class Victim:
    """One `cascade serve` as a child."""

    def __init__(
        self,
        bundle: Bundle,
        *options: str,
        stderr: Path | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """Start it; `wait_until_listening` follows.

        Args:
            bundle: what it serves.
            options: of the command line, after the ones that every victim gets.
            stderr: a file for its log instead of the pipe that `log` reads.
            command: to run instead of `cascade serve` with options.
        """
        self.bundle = bundle
        self.lines: list[str] = []
        self.address = ""
        self.window = ""
        if command is None:
            command = serve_command(bundle, *options)
        where = subprocess.PIPE if stderr is None else stderr.open("wb")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=where,
        )
        if stderr is not None and not isinstance(where, int):
            where.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Keep every line of the log, so that the pipe never fills."""
        if self.process.stderr is not None:
            for line in self.process.stderr:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def wait_until_listening(self) -> None:
        """Until the log says where."""
        until = time.monotonic() + READY_WITHIN_S
        while not (found := self.log("listening")):
            assert self.process.poll() is None, f"it ended with {self.process.poll()}: {self.lines}"
            assert time.monotonic() < until, f"not ready in time: {self.lines}"
            time.sleep(0.005)
        self.address = found[0]["address"]
        for port in self.log("operators_port"):
            self.window = port["address"]

    def log(self, event: str) -> list[dict[str, Any]]:
        """The log's entries of one kind, in order."""
        entries = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def calls(self, request_id: str) -> list[dict[str, Any]]:
        """The log's entries about one request's Generate calls."""
        return [entry for entry in self.log("generate") if entry["request_id"] == request_id]

    def samples(self) -> dict[tuple[str, Labels], float]:
        """The metrics: name and labels to value."""
        with urllib.request.urlopen(f"http://{self.window}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        found = {}
        for line in text.splitlines():
            matched = SAMPLE.match(line)
            if matched is not None:
                name, labels, value = matched.groups()
                found[name, frozenset(LABEL.findall(labels or ""))] = float(value)
        return found

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name whose labels include those."""
        wanted = set(labels.items())
        return sum(v for (n, ls), v in self.samples().items() if n == name and wanted <= ls)

    def queued(self) -> dict[str, int]:
        """Requests waiting by component, as any client is told."""
        with connect(self.address) as caller:
            return {c.name: c.queued for c in caller.server_info().components}

    def gauge(self, name: str) -> float:
        """One of the server's gauges of the present load, summed over stages."""
        return self.total(f"cascade_{name}")

    @property
    def is_idle(self) -> bool:
        """Whether every gauge of work in progress is at zero."""
        return not self._any_of(WORK)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is in it, nor kept of what was."""
        return not self._any_of((*WORK, *KEPT))

    def _any_of(self, gauges: Sequence[str]) -> bool:
        """Whether one of those gauges is not at zero."""
        wanted = {f"cascade_{name}" for name in gauges}
        found = [(name, value) for (name, _), value in self.samples().items() if name in wanted]
        assert {name for name, _ in found} == wanted
        return any(value for _, value in found)

    def wait_until_idle(self) -> None:
        """Until nothing is in it any more."""
        wait_until(lambda: self.is_idle, IDLE_WITHIN_S)

    def wait_until_empty(self) -> None:
        """Until nothing is kept either; short lifetimes make that soon."""
        wait_until(lambda: self.is_empty, IDLE_WITHIN_S)

    def steps_done(self) -> float:
        """Runs of every component's network since it serves, those of the warm-up left out."""
        return self.total("cascade_step_milliseconds_count")

    @property
    def cpu_s(self) -> float:
        """Processor time that it has used, in seconds: unlike a clock's, not other processes'."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mib(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    @property
    def open_files(self) -> int:
        """File descriptors in use."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def threads(self) -> int:
        """Threads of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = READY_WITHIN_S) -> int:
        """Its exit code; its log is complete then."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def kill(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def serve_command(bundle: Bundle, *options: str) -> list[str]:
    """`cascade serve` on a free port of loopback, one engine thread."""
    command = [
        sys.executable,
        "-m",
        "cascade.commands.cli",
        "serve",
        "--bundle",
        str(bundle.folder),
    ]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--threads", "1"]
    return [*command, *options]


@contextmanager
def victim(bundle: Bundle, *options: str, **more: Any) -> Iterator[Victim]:
    """A listening one for the length of a `with` block; empty at its end if it still runs."""
    server = Victim(bundle, *options, **more)
    try:
        server.wait_until_listening()
        if server.window:
            ALIVE.append(server)
        yield server
        if server.window and server.process.poll() is None:
            server.wait_until_idle()
    finally:
        if server in ALIVE:
            ALIVE.remove(server)
        server.kill()
