"""Run a command and write down which functions of a checkout it enters, and who calls whom.

    python benchmarks/lib/call_trace.py ROOT START OUT WORDS...

runs `cascade WORDS...` of the checkout ROOT (its folder is where Python looks first) and records
from the first call of START, `FOLDER/...:NAME`, to that call's return: in all threads, and for a
coroutine across all its resumptions. Runs with the interpreter of any checkout of ours and so
imports nothing of them. What is counted, and what a figure means, is in `benchmarks.structure`.
"""

import atexit
import dis
import json
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOMS = ("cascade", "wire", "runtime_client", "runtime_server", "stages", "export")
"""Source packages; what a benchmark or a test defines is none of the product."""
FUNCTION = 0x1
"""CO_OPTIMIZED: bodies of modules and classes, which an import executes, do not carry it."""
ENDINGS = {dis.opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST") if name in dis.opmap}
BETWEEN = ("contextlib.py", "functools.py", "<string>", "dataclasses.py", "enum.py")
"""Files whose frames only pass a call on: the `__init__` of a dataclass, `with`, `partial`."""

Function = tuple[str, str]


def enclosing(qualname: str) -> str:
    """The named function that a lambda or comprehension stands in; other names as they are."""
    while qualname.endswith(">") and ".<locals>." in qualname:
        qualname = qualname.rpartition(".<locals>.")[0]
    return qualname


class CallTrace:
    """The functions entered, and the calls from one to another, between two moments."""

    def __init__(self, root: Path, start: str) -> None:
        """Nothing yet.

        Args:
            root: folder of the checkout, absolute.
            start: `FOLDER:NAME`; recording begins when a function of that name in that folder
                is entered and ends when that call returns.
        """
        self._root = str(root) + "/"
        self._folder, _, self._name = start.partition(":")
        self._known: dict[CodeType, Function | None] = {}
        self._first: FrameType | None = None
        self.done = False
        self.entered: set[Function] = set()
        self.calls: dict[tuple[Function, Function], int] = {}

    def profile(self, frame: FrameType, event: str, value: Any) -> None:  # noqa: ARG002
        """The function for `sys.setprofile`."""
        if self.done or event not in ("call", "return"):
            return
        if self._first is None:
            self._look_for_start(frame, event)
        elif event == "return":
            self._look_for_end(frame)
        if self._first is not None and event == "call":
            self._record(frame)

    def _look_for_start(self, frame: FrameType, event: str) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == self._name:
            function = self.function(code)
            if function is not None and function[0].startswith(self._folder):
                self._first = frame

    def _look_for_end(self, frame: FrameType) -> None:
        # A coroutine's `return` events are its suspensions too; only the last is at a RETURN.
        if frame is self._first and frame.f_code.co_code[frame.f_lasti] in ENDINGS:
            self.done = True

    def _record(self, frame: FrameType) -> None:
        callee = self.function(frame.f_code)
        if callee is None:
            return
        self.entered.add(callee)
        caller = self._caller(frame)
        if caller is not None:
            edge = (caller, callee)
            self.calls[edge] = self.calls.get(edge, 0) + 1

    def _caller(self, frame: FrameType) -> Function | None:
        """The function of ours that called; None for a thread, an event loop, a library."""
        back = frame.f_back
        while back is not None and back.f_code.co_filename.endswith(BETWEEN):
            back = back.f_back
        return None if back is None else self.function(back.f_code)

    def function(self, code: CodeType) -> Function | None:
        """File below the root and qualified name; None for code that is not the product's."""
        if code not in self._known:
            self._known[code] = self._function(code)
        return self._known[code]

    def _function(self, code: CodeType) -> Function | None:
        path = code.co_filename
        if not path.startswith(self._root) or not code.co_flags & FUNCTION:
            return None
        relative = path[len(self._root) :]
        if relative.partition("/")[0] not in ROOMS:
            return None
        return relative, enclosing(code.co_qualname)

    def record(self) -> dict[str, Any]:
        """What is written: all functions, and calls as (caller, callee, how often)."""
        return {
            "started": self._first is not None,
            "functions": sorted(self.entered),
            "calls": [[*caller, *callee, n] for (caller, callee), n in sorted(self.calls.items())],
        }


def main() -> None:
    """Trace one command."""
    root, start, out, *words = sys.argv[1:]
    trace = CallTrace(Path(root).resolve(), start)
    # This script's folder is not the checkout's business; the checkout's packages come first.
    sys.path[0] = str(Path(root).resolve())
    sys.argv = ["cascade", *words]
    atexit.register(lambda: Path(out).write_text(json.dumps(trace.record())))
    threading.setprofile(trace.profile)
    sys.setprofile(trace.profile)
    (command,) = entry_points(group="console_scripts", name="cascade")
    sys.exit(command.load()())


if __name__ == "__main__":
    main()
