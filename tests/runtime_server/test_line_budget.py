"""Lines that strangers cause: so many per window, and the rest is counted."""

from pathlib import Path

import pytest

from cascade.bundle import Bundle
from cascade.errors import InvalidRequest, ServerBusy
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.identity.gate import LOG_LINES
from runtime_server.service import BUSY_LINES
from runtime_server.watching.line_budget import LineBudget
from tests.serving import PROMPT, connect, request_message, running


def test_a_window_has_so_many_lines_and_tells_of_the_others() -> None:
    """By hand: two lines in ten seconds."""
    now = [100.0]
    lines = LineBudget(2, 10.0, lambda: now[0])
    assert [lines.take() for _ in range(5)] == [0, 0, None, None, None]
    now[0] += 9.9
    assert lines.take() is None
    now[0] += 0.1
    assert [lines.take() for _ in range(3)] == [4, 0, None]
    now[0] += 1000
    assert lines.take() == 1


def test_a_flood_of_strangers_does_not_fill_the_log(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every one is refused, few are written down."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'alice = "{"0" * 64}"')
    with (
        caplog.at_level("INFO", "runtime_server"),
        running(bundle, token_keys=keys) as server,
        connect(server.address) as caller,
    ):
        call = caller.channel.unary_unary("/cascade.v1.CascadeService/GetServerInfo")
        codes = set()
        for _ in range(10):
            calls = [call.future(b"", timeout=120) for _ in range(LOG_LINES)]
            codes |= {done.code().name for done in calls}
    assert codes == {"UNAUTHENTICATED"}
    written = [r for r in caplog.records if r.getMessage() == "unauthenticated"]
    # A slow machine may need more than one window for all of them.
    assert LOG_LINES <= len(written) < 5 * LOG_LINES


def test_an_overload_does_not_fill_the_log(
    slow_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request over the bound is refused, few are written down; a wrong one always is."""
    long = {"sr16": pb.StageOptions(steps=1000)}
    fields = {"prompt": pb.PromptStart(prompt=PROMPT), "options": long}
    with (
        caplog.at_level("INFO", "runtime_server"),
        running(slow_bundle, max_in_flight=1) as server,
        connect(server.address) as caller,
    ):
        inside = caller.generate(request_message(slow_bundle, **fields))
        next(inside)
        for _ in range(5):
            asked = [request_message(slow_bundle, **fields) for _ in range(BUSY_LINES)]
            calls = [caller.generate(message) for message in asked]
            assert {call.code().name for call in calls} == {"RESOURCE_EXHAUSTED"}
        wrong = [caller.generate(request_message(slow_bundle)) for _ in range(2 * BUSY_LINES)]
        assert {call.code().name for call in wrong} == {"INVALID_ARGUMENT"}
        inside.cancel()
    lines = [r.fields for r in caplog.records if r.getMessage() == "refused"]  # type: ignore[attr-defined]
    busy = [line for line in lines if line["reason"] == ServerBusy("").reason]
    # A slow machine may need more than one window for all of them.
    assert BUSY_LINES <= len(busy) < 5 * BUSY_LINES
    assert len(busy) + sum(line["unwritten"] for line in busy) <= 5 * BUSY_LINES
    assert sum(line["reason"] == InvalidRequest("").reason for line in lines) == 2 * BUSY_LINES
