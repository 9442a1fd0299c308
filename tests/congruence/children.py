"""True servers for the congruence tests: `cascade serve` as child processes.

Nothing of the server's code is imported: what is tested is the product as it is run.
"""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cascade.bundle.bundle import Bundle
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.request import GenerateRequest
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from cascade.types import ImageU8

READY_WITHIN_S = 600.0
ONE_BY_ONE = ("--max-batch-rows", "1")
"""For requests that come one after the other: nothing to learn about rows that share a run, which
takes half a minute with large stages."""
ONE_THREAD = EnginePlan(threads=1)
"""ONNX Runtime in float32."""


class ServerChild:
    """One `cascade serve`, which can be killed and started again at the same address."""

    def __init__(self, bundle: Bundle, address: str, cut: int, options: Sequence[str]) -> None:
        self.address = address
        self._command = [sys.executable, "-m", "cascade", "serve"]
        self._command += ["--bundle", str(bundle.folder), "--listen", address]
        self._command += ["--cut", str(cut), "--threads", "1", "--until-stdin-closes"]
        self._command += options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._process = process
        until = time.monotonic() + READY_WITHIN_S
        while not accepts(self.address):
            assert process.poll() is None, f"the server ended with {process.poll()}"
            assert time.monotonic() < until, "the server was not ready in time"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        process = self._process
        assert process is not None
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self.address.startswith("unix:"):
            Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)


@contextmanager
def serving(
    bundle: Bundle, address: str, cut: int = 0, options: Sequence[str] = ()
) -> Iterator[ServerChild]:
    """A server for the length of a `with` block."""
    server = ServerChild(bundle, address, cut, options)
    try:
        yield server
    finally:
        server.kill()


def accepts(address: str) -> bool:
    """Whether something listens there."""
    unix = address.startswith("unix:")
    family = socket.AF_UNIX if unix else socket.AF_INET
    host, _, port = address.rpartition(":")
    target = address.removeprefix("unix:") if unix else (host, int(port))
    with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.connect(target)
        return True
    return False


class LocalAnswers:
    """The pictures that a run without any server makes; the truth of these tests."""

    def __init__(self, bundle: Bundle, plan: EnginePlan = ONE_THREAD) -> None:
        self._stages = open_stages(bundle, range(len(bundle.manifest.components)), plan)

    def images(self, request: GenerateRequest) -> dict[str, ImageU8]:
        """Every stage's picture by its name."""
        found: dict[str, ImageU8] = {}
        for event in generate(self._stages, request):
            if isinstance(event, StageFinished) and event.handoff.image is not None:
                found[event.stage] = event.handoff.image
        return found

    def close(self) -> None:
        """Release the engines."""
        for stage in self._stages:
            stage.close()
