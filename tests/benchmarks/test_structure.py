"""What one picture enters, by the trace: its rules on snippets, and once on this checkout."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import structure
from benchmarks.lib.call_trace import CallTrace
from benchmarks.lib.traced_generate import Trace, interpreter_of, room_of
from cascade.bundle.default_bundle import VARIABLE
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
CHECKOUT = "/a/checkout"
BELOW = """
from dataclasses import dataclass
from contextlib import contextmanager

@dataclass
class Value:
    x: int
    def __post_init__(self): twice(self.x)

def twice(x): return [y + y for y in (x,)]

@contextmanager
def room(): yield twice(1)

def calls(function): return function()
"""
ABOVE = """
import threading

def before(): twice(0)

def start():
    Value(1)
    with room(): pass
    calls(lambda: after())
    thread = threading.Thread(target=lambda: other())
    thread.start()
    thread.join()
    class Local: y = 1

def after(): pass
def other(): pass

async def slow(event):
    await event.wait()
    after()
"""


@pytest.fixture
def above() -> SimpleNamespace:
    """Two rooms of a server: the top, and `low` whose names it uses."""
    below: dict[str, Any] = {"__name__": "below"}
    exec(compile(BELOW, f"{CHECKOUT}/runtime_server/low/below.py", "exec"), below)  # noqa: S102
    top: dict[str, Any] = {**below, "__name__": "above"}
    exec(compile(ABOVE, f"{CHECKOUT}/runtime_server/above.py", "exec"), top)  # noqa: S102
    return SimpleNamespace(**top)


def traced(start: str, run: Callable[[], None]) -> CallTrace:
    """What was recorded while this ran."""
    trace = CallTrace(Path(CHECKOUT), f"runtime_server:{start}")
    threading.setprofile(trace.profile)
    sys.setprofile(trace.profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return trace


def three_calls(above: SimpleNamespace) -> CallTrace:
    """Something before, the traced call, something after it."""

    def run() -> None:
        above.before()
        above.start()
        above.before()

    return traced("start", run)


def test_functions_entered(above: SimpleNamespace) -> None:
    """Between two moments, in threads too; no lambda, comprehension, class body, library."""
    names = {name for _, name in three_calls(above).entered}
    assert names == {
        "start", "Value.__post_init__", "twice", "room", "calls", "after", "other",
    }  # fmt: skip


def test_calls(above: SimpleNamespace) -> None:
    """A dataclass's `__init__` and a `with` pass a call on; a thread is nobody's."""
    calls = three_calls(above).calls
    found = {(a[1], b[1]) for a, b in calls}
    assert {("start", "Value.__post_init__"), ("Value.__post_init__", "twice")} <= found
    assert {("start", "room"), ("calls", "start"), ("start", "after")} <= found
    assert ("start", "other") in found, "the lambda that the thread ran stands in `start`"
    assert not [edge for edge in found if edge[1] == "before" or edge[0] == "before"]


def test_a_coroutine_ends_at_its_return(above: SimpleNamespace) -> None:
    """Not where it waits."""

    async def both() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(above.slow(event))
        await asyncio.sleep(0)
        event.set()
        await task
        above.before()

    trace = traced("slow", lambda: asyncio.run(both()))
    assert {name for _, name in trace.entered} == {"slow", "after"}
    assert trace.done


def test_rooms_that_call_each_other(above: SimpleNamespace) -> None:
    """Up through a closure and down through an import: one pair, with the call that goes up."""
    calls = three_calls(above).calls
    trace = Trace(functions=[], calls=[(*a, *b, n) for (a, b), n in calls.items()])
    (pair,) = trace.both_ways("runtime_server")
    assert pair.rooms == ("low", "top")
    assert pair.there == 1
    assert pair.examples == ("runtime_server/low/below.py:calls -> runtime_server/above.py:start",)
    assert trace.both_ways("runtime_client") == []


def test_rooms() -> None:
    """A sub-package, the top, or none of that package."""
    assert room_of("runtime_server/a/b/c.py", "runtime_server") == "a"
    assert room_of("runtime_server/a.py", "runtime_server") == "top"
    assert room_of("cascade/a/b.py", "runtime_server") is None


def test_a_checkout_without_an_environment(tmp_path: Path) -> None:
    """The message says how it gets one."""
    with pytest.raises(FileNotFoundError, match="make demo"):
        interpreter_of(tmp_path)


def test_the_present_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One picture of the tiny bundle is traced on both sides; the table stands side by side."""
    monkeypatch.setenv(VARIABLE, str(write_tiny_bundle(tmp_path / "tiny").folder))
    record = tmp_path / "r.json"
    monkeypatch.setattr(sys, "argv", ["structure", str(ROOT), "--json", str(record)])
    structure.main()
    (figures,) = json.loads(record.read_text())["checkouts"].values()
    assert figures["client"]["functions"] > figures["client"]["files"] > 20
    assert {"cascade", "runtime_client"} <= set(figures["client"]["files_by_package"])
    assert {"cascade", "runtime_server"} <= set(figures["server"]["files_by_package"])
    assert figures["both_ways"] == [], "control flows down, as imports do"
    assert "functions in files, server" in capsys.readouterr().out
    columns = {"before": {"a": "1", "b": "2"}, "after": {"a": "3"}}
    rows = [line.split() for line in structure.table(columns).splitlines()]
    assert rows[:3] == [["before", "after"], ["a", "1", "3"], ["b", "2", "-"]]
