"""One `cascade generate` at cut 2 against a server, both traced, and what the traces say.

Starts both as processes of the checkout's own interpreter, so that code of any age is traced in
its own environment. The reference bundle of that checkout makes the picture.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACER = Path(__file__).with_name("call_trace.py")
CLIENT_START = "runtime_client:run_generate"
"""The client's part begins when the arguments have been read."""
SERVER_START = "runtime_server:generate"
"""The server's begins in the handler of the call and ends when that handler returns."""
CUT = 2
PROMPT = "a red apple, noto style"
READY_S = 120.0
TOP = "top"
"""The room of modules that lie in no sub-package."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Calls between two rooms of a package, by distinct (caller, callee)."""

    rooms: tuple[str, str]
    there: int
    """From the first room into the second."""
    back: int
    """From the second into the first."""
    examples: tuple[str, ...]
    """The calls of the rarer direction: the ones that point the other way."""


@dataclass(frozen=True)
class Trace:
    """What one process entered."""

    functions: list[tuple[str, str]]
    calls: list[tuple[str, str, str, str, int]]

    @property
    def files(self) -> set[str]:
        """Files of the functions."""
        return {path for path, _ in self.functions}

    def files_by_package(self) -> dict[str, int]:
        """How many of them in which package."""
        packages = [path.partition("/")[0] for path in self.files]
        return {name: packages.count(name) for name in sorted(set(packages))}

    def both_ways(self, package: str) -> list[Crossing]:
        """Pairs of rooms of a package that call each other, in both directions."""
        edges: dict[tuple[str, str], list[str]] = {}
        for caller, calling, callee, called, _ in self.calls:
            rooms = room_of(caller, package), room_of(callee, package)
            if None not in rooms and rooms[0] != rooms[1]:
                key = (str(rooms[0]), str(rooms[1]))
                edges.setdefault(key, []).append(f"{caller}:{calling} -> {callee}:{called}")
        pairs = sorted(pair for pair in edges if pair[0] < pair[1] and pair[::-1] in edges)
        return [crossing(pair, edges[pair], edges[pair[::-1]]) for pair in pairs]


def crossing(pair: tuple[str, str], there: list[str], back: list[str]) -> Crossing:
    """One pair, with the calls of the rarer direction as examples."""
    rarer = tuple(min(there, back, key=len))
    return Crossing(rooms=pair, there=len(there), back=len(back), examples=rarer)


def room_of(path: str, package: str) -> str | None:
    """The sub-package of a file, `top` for one directly in the package; None outside it."""
    first, *rest = path.split("/")
    if first != package:
        return None
    return rest[0] if len(rest) > 1 else TOP


def interpreter_of(root: Path) -> Path:
    """The Python of a checkout: without torch where there is one.

    Raises:
        FileNotFoundError: the checkout has no environment; the message says how it gets one.
    """
    for name in (".venv/light/bin/python", ".venv/bin/python"):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{root}: no .venv; `make demo` there makes one, or give --no-trace")


def traced_generate(root: Path) -> tuple[Trace, Trace]:
    """What the client and the server of a checkout enter for one picture.

    Args:
        root: the checkout, absolute, with an environment of its own.
    """
    python = interpreter_of(root)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with traced_server(root, python, folder) as address:
            words = ["generate", PROMPT, "--cut", str(CUT), "--server", address]
            words += ["-o", str(folder / "picture.png")]
            command = tracing(root, python, CLIENT_START, folder / "client.json")
            subprocess.run(
                [*command, *words], cwd=root, check=True, capture_output=True, timeout=600
            )
        return read_trace(folder / "client.json"), read_trace(folder / "server.json")


@contextmanager
def traced_server(root: Path, python: Path, folder: Path) -> Iterator[str]:
    """A traced server; gives its address and ends it."""
    command = tracing(root, python, SERVER_START, folder / "server.json")
    words = ["serve", "--listen", "127.0.0.1:0", "--cut", str(CUT)]
    log = folder / "server.log"
    with log.open("w") as stream:
        child = subprocess.Popen([*command, *words], cwd=root, stdout=stream, stderr=stream)
        try:
            yield address_in(log, child)
            child.terminate()
            child.wait(60)
        finally:
            child.kill()
            child.wait()


def tracing(root: Path, python: Path, start: str, out: Path) -> list[str]:
    """The command in front of `cascade`'s words."""
    return [str(python), str(TRACER), str(root), start, str(out)]


def address_in(log: Path, child: "subprocess.Popen[bytes]") -> str:
    """Where the server listens, once it has logged it.

    Raises:
        RuntimeError: it ended, or took too long; the message has its last lines.
    """
    until = time.monotonic() + READY_S
    while child.poll() is None and time.monotonic() < until:
        for line in log.read_text().splitlines():
            if '"listening"' in line and line.endswith("}"):
                return str(json.loads(line)["address"])
        time.sleep(0.1)
    raise RuntimeError(f"the traced server does not listen: {log.read_text()[-2000:]}")


def read_trace(path: Path) -> Trace:
    """What a traced process wrote.

    Raises:
        RuntimeError: nothing was recorded, because no function of the name was entered.
    """
    record: dict[str, Any] = json.loads(path.read_text())
    if not record["started"]:
        raise RuntimeError(
            f"{path.stem}: {CLIENT_START} or {SERVER_START} was not entered; was it renamed?"
        )
    return Trace(
        functions=[(path, name) for path, name in record["functions"]],
        calls=[(a, b, c, d, n) for a, b, c, d, n in record["calls"]],
    )
