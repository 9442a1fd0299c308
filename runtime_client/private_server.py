"""A server of one's own: `cascade serve` as a child on a private Unix socket.

So that a run without `--server` takes the true path. The child ends when its standard input
closes, hence with this process however that ends. Knows the server's command line, not its code.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path

from cascade.engine_plan import EnginePlan
from cascade.errors import Cancelled, TransportError
from cascade.owning_process import OwningProcess, do_in_children
from runtime_client.config import UNIX_PREFIX

START_TIMEOUT_S = 60.0
POLL_S = 0.01
STOP_PATIENCE_S = 5.0
"""How long the child may take to end by itself, and again after SIGTERM."""
LONGEST_SOCKET_PATH = 100
"""The system's limit is 108 bytes, 104 on macOS."""
SOCKET_NAME = "cascade.sock"
LOG_NAME = "stderr.log"
LOG_TAIL_BYTES = 4096


class PrivateServer:
    """One child process and its folder."""

    def __init__(
        self, bundle_folder: Path, plan: EnginePlan, cut: int, signed_by: Path | None = None
    ) -> None:
        """Start the child; returns at once, before it is ready.

        Args:
            bundle_folder: the bundle to serve.
            plan: how each component is run.
            cut: the first component that it hosts.
            signed_by: the public key that must have signed the bundle, if any must.

        Raises:
            TransportError: the system refused to start it.
        """
        self._owner = OwningProcess()
        self._closing = threading.Event()
        folder = private_folder()
        # Also at the end of this process, but of no other one.
        self._remove_folder = weakref.finalize(self, remove_folder, folder, self._owner)
        self._path = folder / SOCKET_NAME
        self._log = folder / LOG_NAME
        command = [sys.executable, "-m", "cascade.cli", "serve"]
        command += ["--bundle", str(bundle_folder.resolve()), "--listen", self.address]
        command += ["--cut", str(cut), "--until-stdin-closes"]
        if signed_by is not None:
            command += ["--require-signature", str(signed_by.resolve())]
        # Its first request is at hand already, and does what a warm-up would.
        command += ["--no-warm-up"]
        if plan.choices:
            engine, precision = plan.texts
            command += ["--engine", engine, "--precision", precision]
        try:
            with self._log.open("wb") as log:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as exc:
            self._remove_folder()
            raise TransportError(f"the private server cannot be started: {exc.strerror}") from exc
        do_in_children(self, PrivateServer._let_go)

    @property
    def address(self) -> str:
        """Where it listens, as `ClientConfig.server` would say it."""
        return f"{UNIX_PREFIX}{self._path}"

    @property
    def is_alive(self) -> bool:
        """Whether the child still runs."""
        return self._child.poll() is None

    @property
    def process_id(self) -> int:
        """The child's process id."""
        return self._child.pid

    def wait_until_ready(self) -> str:
        """The address, once the child accepts connections.

        Raises:
            TransportError: it ended or took too long; the message has its last words.
            Cancelled: `stop_waiting` or `close` was called.
        """
        begun = time.monotonic()
        while not accepts_connections(self._path):
            if not self.is_alive:
                raise TransportError(f"the private server did not start: {self._last_words()}")
            if time.monotonic() - begun > START_TIMEOUT_S:
                raise TransportError(
                    f"the private server was not ready within {START_TIMEOUT_S:g} s: "
                    f"{self._last_words()}"
                )
            if self._closing.wait(POLL_S):
                raise Cancelled("the client was closed")
        return self.address

    def stop_waiting(self) -> None:
        """Let `wait_until_ready` end in its other thread."""
        self._closing.set()

    def close(self) -> None:
        """End the child, gently first, and remove the folder; nothing in another process."""
        if not self._owner.is_this:
            return
        self.stop_waiting()
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
        for insist in (self._child.poll, self._child.terminate, self._child.kill):
            insist()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_PATIENCE_S)
                break
        self._remove_folder()

    def _let_go(self) -> None:
        """In a forked child: hold nothing open that keeps the server running."""
        if self._child.stdin is not None:
            self._child.stdin.close()

    def _last_words(self) -> str:
        """The last line that the child wrote to its standard error."""
        with contextlib.suppress(OSError):
            tail = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
            lines = [line.strip() for line in tail.splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return f"exit code {self._child.poll()}, nothing on its standard error"


def private_folder() -> Path:
    """A new folder that only this user may enter, with a path short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="cascade-"))
    if len(str(folder)) + len(SOCKET_NAME) < LONGEST_SOCKET_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="cascade-", dir="/tmp"))


def remove_folder(folder: Path, owner: OwningProcess) -> None:
    """Remove a private server's folder, in the process that made it."""
    if owner.is_this:
        shutil.rmtree(folder, ignore_errors=True)


def accepts_connections(path: Path) -> bool:
    """Whether something listens on that Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
