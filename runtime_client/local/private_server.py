"""A server of one's own: `cascade serve` as a child on a private Unix socket.

So that a run without `--server` takes the true path. The child ends when its standard input
closes, hence with this process however that ends, and takes their folder with it. Knows the
server's command line, not its code.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from cascade.addresses import UNIX_PREFIX
from cascade.errors import Cancelled, TransportError
from cascade.system.early_child import take_early
from cascade.system.owning_process import OwningProcess, do_in_children
from cascade.tuning.plan import EnginePlan
from wire.limits import PRIVATE_FOLDER

START_TIMEOUT_S = 60.0
POLL_S = 0.01
STOP_PATIENCE_S = 5.0
"""How long the child may take to end by itself, and again after SIGTERM."""
LONGEST_SOCKET_PATH = 100
"""The system's limit is 108 bytes, 104 on macOS."""
SOCKET_NAME = "cascade.sock"
USUAL_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - for a folder with a random name
KEPT_LINES, LONGEST_LINE = 8, 4096
READ_PATIENCE_S = 1.0
"""For what a child wrote just before it ended."""


class PrivateServer:
    """One child process and its folder."""

    def __init__(
        self,
        bundle_folder: Path,
        plan: EnginePlan,
        components: Sequence[str],
        signed_by: Path | None = None,
    ) -> None:
        """Start the child; returns at once, before it is ready.

        Args:
            bundle_folder: the bundle to serve.
            plan: how each component is run.
            components: names of those that it hosts.
            signed_by: the public key that must have signed the bundle, if any must.

        Raises:
            TransportError: the system refused to start it.
        """
        self._owner = OwningProcess()
        self._closing = threading.Event()
        self._folder = private_folder()
        self._path = self._folder / SOCKET_NAME
        command = ["serve"]
        command += ["--bundle", str(bundle_folder.resolve()), "--listen", self.address]
        command += ["--components", ",".join(components), "--until-stdin-closes"]
        if signed_by is not None:
            command += ["--require-signature", str(signed_by.resolve())]
        # Its first request is at hand already, and does what a warm-up would.
        command += ["--no-warm-up"]
        if plan.choices:
            engine, precision = plan.texts
            command += ["--engine", engine, "--precision", precision]
        self._words = StderrTail()
        try:
            self._child = started(command)
        except OSError as exc:
            remove_folder(self._folder)
            raise TransportError(f"the private server cannot be started: {exc.strerror}") from exc
        # Its end of the pipe would survive in a forked child, and the server with it, for ever.
        do_in_children(self, PrivateServer._let_go)
        self._words.listen(self._child.stderr)

    @property
    def address(self) -> str:
        """Where it listens, as `ClientConfig.server` would say it."""
        return f"{UNIX_PREFIX}{self._path}"

    @property
    def process_id(self) -> int:
        """Of the child, for measuring what it uses."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the child still runs."""
        return self._child.poll() is None

    def wait_until_ready(self, allowed_s: float = START_TIMEOUT_S) -> str:
        """The address, once the child accepts connections.

        Args:
            allowed_s: how long that may take.

        Raises:
            TransportError: it ended or took too long; the message has its last words.
            Cancelled: `stop_waiting` or `close` was called.
        """
        begun = time.monotonic()
        # A connection that is made, not a line of its log: what listens will answer, and logs may
        # be off.
        while not accepts_connections(self._path):
            if not self.is_alive:
                raise TransportError(f"the private server did not start: {self._last_line()}")
            if time.monotonic() - begun > allowed_s:
                raise TransportError(
                    f"the private server was not ready within {allowed_s:g} s: {self._last_line()}"
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
        # The first only looks: with its standard input closed, the child ends by itself.
        for insist in (self._child.poll, self._child.terminate, self._child.kill):
            insist()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_PATIENCE_S)
                break
        self._words.close()
        remove_folder(self._folder)

    def _let_go(self) -> None:
        """In a forked child: hold nothing open that keeps the server running."""
        if self._child.stdin is not None:
            self._child.stdin.close()

    def _last_line(self) -> str:
        """The last line that the child wrote to its standard error."""
        code = self._child.poll()
        return self._words.last or f"exit code {code}, nothing on its standard error"


def started(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A child that runs that command: one that was started early and has loaded, or a new one.

    Args:
        words: of `cascade`, without the program's name.

    Raises:
        OSError: the system refused.
    """
    early = take_early()
    if early is not None and early.become(words):
        return early.process
    return subprocess.Popen(
        [sys.executable, "-m", "cascade", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Ctrl-C goes to the whole foreground group: the server must end by its client's
        # word, not with it.
        start_new_session=True,
    )


class StderrTail:
    """The last lines of a child, read as they come: a log on disk would need a disk with room."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread: threading.Thread | None = None
        self._pipe: IO[bytes] | None = None

    def listen(self, pipe: IO[bytes] | None) -> None:
        """Read from now on, until the child has closed its end."""
        if pipe is not None:
            self._pipe = pipe
            self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
            self._thread.start()

    @property
    def last(self) -> str:
        """The last line; that of a child that has ended, once it is read."""
        if self._thread is not None:
            self._thread.join(READ_PATIENCE_S)
        return self._lines[-1] if self._lines else ""

    def close(self) -> None:
        """Stop reading."""
        if self._thread is not None:
            self._thread.join(READ_PATIENCE_S)
        if self._pipe is not None and not (self._thread and self._thread.is_alive()):
            self._pipe.close()

    def _read(self, pipe: IO[bytes]) -> None:
        # Read to the end even where nobody asks: a full pipe would stop the server at its next
        # line.
        while line := pipe.readline(LONGEST_LINE):
            if text := line.decode("utf-8", "replace").strip():
                self._lines.append(text)


def private_folder(
    environment: Mapping[str, str] = os.environ, usual_places: Sequence[str] = USUAL_PLACES
) -> Path:
    """A new folder that only this user may enter and where a socket can be made.

    Args:
        environment: may name places in TMPDIR and XDG_RUNTIME_DIR.
        usual_places: tried after them.

    Raises:
        TransportError: there is no such place.
    """
    named = [environment.get(name, "") for name in ("TMPDIR", "XDG_RUNTIME_DIR")]
    # Not tempfile's choice alone: a TMPDIR may be too long for a socket's path, or take no sockets.
    for place in [*named, *usual_places]:
        if not Path(place).is_absolute():
            continue
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=PRIVATE_FOLDER, dir=place))
            if takes_sockets(folder / SOCKET_NAME):
                return folder
            remove_folder(folder)
    raise TransportError(
        "the private server finds no folder for its socket: set TMPDIR to one that can be "
        f"written and whose path has at most {LONGEST_SOCKET_PATH - 40} bytes, run everything here "
        "(--cut with the number of components), or name a --server"
    )


def takes_sockets(path: Path) -> bool:
    """Whether a Unix socket can be made at a path: not on every file system, nor at any length."""
    if len(os.fsencode(path)) >= LONGEST_SOCKET_PATH:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove a private folder; its server may have done so before."""
    shutil.rmtree(folder, ignore_errors=True)


def accepts_connections(path: Path) -> bool:
    """Whether something listens on that Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
