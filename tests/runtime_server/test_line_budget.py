"""Lines that strangers cause: so many per window, and the rest is counted."""

from pathlib import Path

import pytest

from cascade.bundle import Bundle
from runtime_server.identity.gate import LOG_LINES
from runtime_server.watching.line_budget import LineBudget
from tests.serving import connect, running


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
            calls = [call.future(b"", timeout=20) for _ in range(LOG_LINES)]
            codes |= {done.code().name for done in calls}
    assert codes == {"UNAUTHENTICATED"}
    written = [r for r in caplog.records if r.getMessage() == "unauthenticated"]
    # A slow machine may need more than one window for all of them.
    assert LOG_LINES <= len(written) < 5 * LOG_LINES
