"""Lines that callers cause: so many of each kind per window, and the rest is counted."""

import contextlib
import io
import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import EngineError
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.telemetry.log_rate_limit import (
    LINES,
    LINES_OF_WORK,
    MAX_KINDS,
    LineKind,
    LogRateLimit,
)
from runtime_server.telemetry.logs import (
    LOGGER,
    SUPPRESSED,
    RateLimitedHandler,
    log_error,
    log_event,
)
from tests.support.server_process import victim
from tests.support.serving import PROMPT, SERVICE, Caller, ask, connect, request_message, results_of

REFUSED = LineKind("refused", "info", "INVALID_REQUEST")
FLOOD = 250
TOGETHER = 50
"""Calls of each kind, more than any budget of one window; and how many at a time."""


class Clock:
    """A clock that is put forward by hand."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_a_window_has_so_many_lines_of_each_kind_and_its_end_tells_of_the_others() -> None:
    """By hand; one kind's flood takes nothing from another."""
    clock = Clock()
    budget = LogRateLimit(clock, 10.0)
    assert [budget.take(REFUSED) for _ in range(LINES + 5)] == [True] * LINES + [False] * 5
    assert budget.take(LineKind("refused", "info", "SERVER_BUSY"))
    clock.now += 9.9
    assert budget.settle() == {}
    assert not budget.take(REFUSED)
    clock.now += 0.1
    assert budget.settle() == {REFUSED: 6}
    assert budget.take(REFUSED)
    assert budget.settle_now() == {}


def test_kinds_made_up_without_end_share_one_budget() -> None:
    """Memory is bounded whatever a kind is made from."""
    budget = LogRateLimit(Clock())
    taken = sum(budget.take(LineKind("invented", "info", str(n))) for n in range(2 * MAX_KINDS))
    assert taken == MAX_KINDS + LINES
    assert sum(budget.settle_now().values()) == MAX_KINDS - LINES


def test_a_line_about_work_done_is_always_written() -> None:
    """Working took longer than writing; what was asked for again or given up did not."""
    budget = LogRateLimit(Clock())
    done = LineKind("generate", "info", "ok")
    assert all(budget.take(done) for _ in range(10 * LINES_OF_WORK))
    for outcome in ("cancelled", "ok joined"):
        kind = LineKind("generate", "info", outcome)
        assert sum(budget.take(kind) for _ in range(LINES_OF_WORK + 7)) == LINES_OF_WORK


@pytest.fixture
def written() -> Any:
    """The lines of this package's log, which is put into a stream of text."""
    stream, clock = io.StringIO(), Clock()
    handler = RateLimitedHandler(stream, LogRateLimit(clock, 10.0), 10.0)
    before, level = LOGGER.handlers, LOGGER.level
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.DEBUG)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read, clock, handler
    LOGGER.handlers = before
    LOGGER.setLevel(level)
    handler.close()


def test_the_next_line_of_any_kind_tells_what_is_missing(written: Any) -> None:
    """With event, outcome and number."""
    read, clock, _ = written
    for _ in range(LINES + 9):
        log_event("refused", reason="INVALID_REQUEST")
    clock.now += 10
    log_event("draining")
    assert [line["event"] for line in read()] == ["refused"] * LINES + [SUPPRESSED, "draining"]
    told = read()[LINES]
    assert told["level"] == "info"
    assert (told["of"], told["outcome"], told["lines"]) == ("refused", "INVALID_REQUEST", 9)


def test_the_end_of_the_process_tells_what_is_missing(written: Any) -> None:
    """Also where no window has ended."""
    read, _, handler = written
    for _ in range(LINES + 1):
        log_event("admin", level="debug", status="404")
    handler.close()
    assert read()[-1]["lines"] == 1
    assert read()[-1]["of"] == "admin"


def test_errors_of_different_places_do_not_hide_each_other(written: Any) -> None:
    """Each has its lines."""
    read, _, _ = written

    def one() -> None:
        raise EngineError("one")

    def other() -> None:
        raise EngineError("other")

    for fails in (one, other):
        for _ in range(2 * LINES):
            try:
                fails()
            except EngineError as error:
                log_error(error, "id", "request")
    assert Counter(line["text"] for line in read()) == {"one": LINES, "other": LINES}


def many(caller: Caller, method: str, data: bytes, token: str = "") -> None:
    """A flood of calls of one kind, so many at a time as a connection carries; all are answered."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    for _ in range(FLOOD // TOGETHER):
        call = caller.channel.unary_stream(SERVICE + method)
        for answers in [call(data, timeout=60, metadata=metadata) for _ in range(TOGETHER)]:
            with contextlib.suppress(grpc.RpcError):
                list(answers)


def test_no_flood_fills_the_log_and_every_line_is_accounted_for(
    bundle: Bundle, tmp_path: Path
) -> None:
    """Against the process: lines written and lines counted together are the calls, exactly."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'alice = "{"0" * 64}"')
    kept = request_message(bundle, request_id="kept", prompt=pb.PromptStart(prompt=PROMPT))
    unknown = request_message(bundle, request_id="nobody", resume=pb.ResumeStart())
    other = request_message(bundle, request_id="other", prompt=pb.PromptStart(prompt="red"))
    other.bundle_id = "0" * 64
    options = ("--log-level", "debug", "--token-keys", str(keys), "--anonymous", "allow")
    with victim(bundle, *options) as server, connect(server.address) as caller:
        assert len(results_of(caller.generate(kept))) == 4
        many(caller, "Generate", b"\xff\xff")
        many(caller, "PutContext", b"\xff\xff")
        many(caller, "Cancel", pb.CancelRequest(request_id="nobody").SerializeToString())
        many(caller, "GetServerInfo", b"", "not a token of anybody")
        for message in (kept, unknown, other):
            many(caller, "Generate", message.SerializeToString())
        for _ in range(FLOOD):
            assert ask(server.window, "/nothing")[0] == 404
        server.wait_until_idle()
        server.process.terminate()
        assert server.wait() == 0
    asked = {
        ("refused", "INVALID_REQUEST"): 2 * FLOOD,
        ("refused", "UNKNOWN_REQUEST"): FLOOD,
        ("refused", "BUNDLE_MISMATCH"): FLOOD,
        ("cancel", "False"): FLOOD,
        ("unauthenticated", "UNAUTHENTICATED"): FLOOD,
        ("generate", "ok"): FLOOD + 1,
        ("admin", "404"): FLOOD,
    }
    written, counted = accounts(server.lines)
    assert {kind: written[kind] + counted[kind] for kind in asked} == asked
    # Most of it was never written, however slow the machine is.
    assert sum(counted.values()) > sum(written.values())


def accounts(lines: list[str]) -> tuple[Counter[Any], Counter[Any]]:
    """Lines of a log that are there, and those it says are not, by event and outcome."""
    written: Counter[Any] = Counter()
    counted: Counter[Any] = Counter()
    for line in map(json.loads, lines):
        if line["event"] == SUPPRESSED:
            counted[line["of"], line["outcome"].removesuffix(" joined")] += line["lines"]
        else:
            names = ("reason", "outcome", "status", "found")
            how = next((str(line[name]) for name in names if name in line), "")
            written[line["event"], how] += 1
    return written, counted


def test_a_flood_that_nothing_follows_is_told_of() -> None:
    """The window's own end writes the line; nobody needs to call again."""
    code = (
        "import sys\n"
        "from runtime_server.telemetry.log_rate_limit import LogRateLimit\n"
        "from runtime_server.telemetry.logs import LOGGER, RateLimitedHandler, log_event\n"
        "budget = LogRateLimit(lambda: 0.0)\n"
        "LOGGER.handlers = [RateLimitedHandler(sys.stderr, budget, 0.05)]\n"
        "for _ in range(25): log_event('refused', level='error', reason='X')\n"
        "sys.stdin.read()\n"
    )
    lines: list[dict[str, Any]] = []
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        # The timer may end a window in the middle of the flood: then more lines are written.
        while sum(line.get("lines", 1) for line in lines) < LINES + 5:
            lines.append(json.loads(child.stderr.readline()))
        child.kill()
    assert sum(line.get("lines", 1) for line in lines) == LINES + 5
    assert SUPPRESSED in {line["event"] for line in lines}
