"""Where the time and the bytes went: no second is counted twice, none is lost."""

import io

import numpy as np
import pytest

from cascade.errors import StageError
from cascade.events import Accepted, FellBack, Progress, StageFinished, Transferred
from cascade.request import Handoff
from runtime_client.cli.progress_bars import ProgressBars, bar
from runtime_client.cli.time_table import WorkRows, host_words, render, render_hops, rows
from runtime_client.remote.transfer_stats import TransferStats
from runtime_client.result import Collected, HopAccount

IMAGE = np.zeros((2, 2, 3), np.uint8)
SECONDS = {
    "tokenise": 0.001,
    "encode": 0.01,
    "base": 0.2,
    "serialise": 0.003,
    "upload": 0.02,
    "queue": 0.05,
    "sr256": 0.1,
    "sr1024": 0.4,
    "download": 0.03,
    "write picture": 0.06,
    "total": 1.0,
}
STAGES = ["base", "sr256", "sr1024"]


def work(cut: int) -> WorkRows:
    """The rows of a bundle with a text encoder, cut there."""
    mine = max(0, cut - 1)
    return WorkRows(words=("tokenise", "encode"), here=STAGES[:mine], there=STAGES[mine:])


def test_the_table_lists_the_work_in_order() -> None:
    """Every hop of the default cut, the rest, and the total."""
    assert list(rows(SECONDS, work(2))) == [
        "tokenise",
        "encode",
        "base",
        "serialise",
        "upload",
        "queue",
        "sr256",
        "sr1024",
        "download",
        "write picture",
        "everything else",
        "total",
    ]


def test_the_cut_moves_the_wire_in_the_table() -> None:
    """Stages here come before the upload, stages there after it."""
    names = list(rows({**SECONDS, "load": 0.1, "connect": 0.1}, work(0)))
    assert names.index("connect") < names.index("upload") < names.index("base")
    names = list(rows(SECONDS, work(4)))
    assert names.index("sr1024") < names.index("upload")


@pytest.mark.parametrize("cut", range(5))
def test_the_rows_add_up(cut: int) -> None:
    """All rows but the last make the total."""
    table = rows(SECONDS, work(cut))
    total = table.pop("total")
    assert sum(table.values()) == pytest.approx(total)


def test_the_table_is_readable() -> None:
    """Milliseconds, shares and bytes, in columns."""
    lines = render(rows(SECONDS, work(2)), 12_345, 3_145_728, {"sr256": "ort int8"}).splitlines()
    assert "base                  200.0   20.0%" in lines
    assert lines[-2].split() == ["bytes", "up", "12,345"]
    assert lines[-1].split() == ["bytes", "down", "3,145,728"]
    assert [line.split()[-2:] for line in lines if line.startswith("sr256")] == [["ort", "int8"]]
    assert len({len(line) for line in lines[:-2] if not line.startswith("sr256")}) == 1


def test_traffic_splits_waiting_into_server_and_wire() -> None:
    """What the server claims is not the wire's; the rest is upload first, then download."""
    traffic = TransferStats()
    traffic.seconds.update({"first": 0.1, "later": 1.0, "serialise": 0.01, "upload": 0.2})
    traffic.report({"sr16": 0.5, "queue": 0.1})
    found = traffic.finalize({"queue": 0.1, "sr16": 0.5, "encode": 0.07}, {"sr16"})
    assert found["queue"] == 0.0
    assert found["serialise"] == pytest.approx(0.01 + 0.07)
    # 1.1 waited, 0.67 claimed: 0.43 on the wire, 0.1 of it before the first event.
    assert found["upload"] == pytest.approx(0.3)
    assert found["download"] == pytest.approx(0.33)


def test_work_hidden_behind_a_component_costs_nothing() -> None:
    """Pictures encoded and decoded while the next component runs add no time of their own."""
    traffic = TransferStats()
    traffic.seconds.update({"first": 0.01, "later": 0.94, "serialise": 0.03})
    traffic.report({"sr16": 0.4, "sr32": 0.5})
    found = traffic.finalize({"sr16": 0.4, "sr32": 0.5, "encode": 0.08}, {"sr16", "sr32"})
    assert found["serialise"] == pytest.approx(0.98 - 0.9)
    assert (found["upload"], found["download"]) == (0.0, 0.0)


def test_the_parts_of_packing_add_up_to_it() -> None:
    """Encoding, the server's and decoding; what was hidden is taken off the server's first."""
    traffic = TransferStats()
    with traffic.timed_packing("pack"), traffic.timed_packing("unpack"):
        pass
    traffic.seconds.update({"first": 0.01, "later": 0.94, "serialise": 0.05})
    traffic.packing.update({"pack": 0.02, "unpack": 0.03})
    traffic.report({"sr16": 0.4, "sr32": 0.5})
    found = traffic.finalize({"sr16": 0.4, "sr32": 0.5, "encode": 0.08}, {"sr16", "sr32"})
    # 0.98 claimed, 0.95 waited: 0.03 of the server's encoding was hidden.
    assert traffic.packing == pytest.approx({"pack": 0.02, "server pack": 0.05, "unpack": 0.03})
    assert sum(traffic.packing.values()) == pytest.approx(found["serialise"])


def test_traffic_never_counts_below_zero() -> None:
    """A server that works while this side is busy elsewhere owes nothing."""
    traffic = TransferStats()
    traffic.seconds["later"] = 0.1
    found = traffic.finalize({"queue": 5.0}, set())
    assert (found["upload"], found["download"], found["queue"]) == (0.0, 0.0, 5.0)


def test_events_add_up_to_a_result() -> None:
    """Pictures by stage in order, seconds and bytes summed, a fallback remembered."""
    collected = Collected()
    for event in (
        StageFinished("text_encoder", Handoff(prompt="a"), {"encode": 0.1}),
        Accepted(0, 0.0),
        Progress("base", 1, 1),
        StageFinished("base", Handoff(image=IMAGE), {"base": 0.1, "queue": 0.1}),
        StageFinished("sr16", Handoff(image=IMAGE + 1), {"sr16": 0.1, "queue": 0.2}),
        Transferred(10, 20, {"upload": 0.5}),
        FellBack("sr32", "gone"),
    ):
        collected.add(event)
    assert list(collected.images) == ["base", "sr16"]
    assert collected.image[0, 0, 0] == 1
    assert collected.seconds["queue"] == pytest.approx(0.3)
    assert (collected.bytes_up, collected.bytes_down) == (10, 20)
    assert collected.fell_back


def test_a_request_without_a_picture_is_a_bug() -> None:
    """And says so."""
    with pytest.raises(StageError):
        _ = Collected().image


def test_a_pipe_gets_one_line_per_stage() -> None:
    """No carriage returns, no bars."""
    out = io.StringIO()
    bars = ProgressBars(out, interactive=False)
    bars.show(Accepted(3, 1.0))
    bars.show(Progress("base", 1, 2))
    bars.show(StageFinished("base", Handoff(), {"base": 0.25, "queue": 9.0}))
    bars.close()
    assert out.getvalue().split() == ["base", "250", "ms"]


def test_a_terminal_gets_a_bar() -> None:
    """Redrawn in place, gone when the stage is done."""
    out = io.StringIO()
    bars = ProgressBars(out, interactive=True)
    bars.show(Progress("base", 1, 2))
    assert out.getvalue().endswith(bar(Progress("base", 1, 2)))
    assert bar(Progress("base", 1, 2)).count("#") == 15
    bars.show(StageFinished("base", Handoff(), {"base": 0.25}))
    bars.show(FellBack("sr16", "it was killed"))
    assert out.getvalue().endswith("run here: it was killed\n")


def test_every_hop_has_a_line() -> None:
    """Components, place, milliseconds; bytes only of a server."""
    there = HopAccount(
        components=("sr16", "sr32"),
        side="server",
        server="far:1",
        seconds={"sr16": 0.5, "sr32": 0.25, "upload": 0.25},
        bytes_up=1200,
        bytes_down=9,
    )
    here = HopAccount(
        components=("base",), side="here", server="", seconds={}, bytes_up=0, bytes_down=0
    )
    assert [line.split() for line in render_hops([here, there]).splitlines()] == [
        ["hop", "where", "ms", "bytes", "up", "bytes", "down"],
        ["base", "here", "0.0"],
        ["sr16,", "sr32", "server", "far:1", "1000.0", "1,200", "9"],
    ]


def test_what_is_not_an_engines_is_the_hosts() -> None:
    """A stage of 400 ms whose engines ran 350 says 50; one of an older server says nothing."""
    collected = Collected()
    collected.add(StageFinished("sr1024", Handoff(image=IMAGE), {"sr1024": 0.4}, None, 0.35))
    collected.add(StageFinished("sr256", Handoff(image=IMAGE), {"sr256": 0.1}))
    assert collected.engine_seconds == {"sr1024": 0.35}
    assert host_words(collected.engine_seconds, SECONDS, "sr1024") == ", host 50.0"
    assert host_words(collected.engine_seconds, SECONDS, "sr256") == ""
