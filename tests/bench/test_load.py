"""Load generators on a clock of the test's own: what is late, and whose fault it is."""

import threading

import pytest

from bench import load
from bench.figures import send_lag
from bench.load import CROWDED, Window, closed_loop, open_loop, single_stream
from bench.workload import WorkItem
from cascade.errors import ServerBusy
from tests.bench.fake_system import WORKLOAD, FakeSystem, FakeTime


def test_a_single_stream_sends_when_the_last_has_ended() -> None:
    """Two seconds each: due, sent and done follow each other; the hops add up to the latency."""
    clock = FakeTime()
    window = Window(FakeSystem(lambda _: clock.sleep(2.0)), WORKLOAD, clock=clock)
    single_stream(window, range(3))
    assert [(a.due_s, a.sent_s, a.done_s) for a in window.attempts] == [
        (0.0, 0.0, 2.0), (2.0, 2.0, 4.0), (4.0, 4.0, 6.0),
    ]  # fmt: skip
    assert window.attempts[1].pictures_s == {"small": 2.0, "large": 4.0}
    assert window.attempts[1].hops == {"work": 0.0, "residual": 2.0}
    assert window.seconds == 6.0


def test_a_window_has_an_end() -> None:
    """Nothing is sent after it; what was sent is waited for."""
    clock = FakeTime()
    window = Window(FakeSystem(lambda _: clock.sleep(2.0)), WORKLOAD, clock=clock)
    single_stream(window, range(99), until_s=3.0)
    assert (len(window.attempts), window.seconds) == (2, 4.0)


def test_an_open_loop_waits_for_nobody() -> None:
    """No request ends before the last is sent: a sender that waits would never send it."""
    everything_sent = threading.Barrier(5)

    def work(_: WorkItem) -> None:
        everything_sent.wait(30)

    clock = FakeTime()
    window = Window(FakeSystem(work), WORKLOAD, clock=clock)
    open_loop(window, [0.0, 1.0, 2.0, 3.0, 4.0], sleep=clock.sleep)
    assert sorted(a.due_s for a in window.attempts) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert {a.done_s for a in window.attempts} == {4.0}
    assert sorted(a.latency_s for a in window.attempts) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_late_generator_is_called_degraded() -> None:
    """Requests that were due together while it slept too long count from when they were due."""
    clock = FakeTime()
    window = Window(FakeSystem(), WORKLOAD, clock=clock)
    open_loop(window, [1.0, 1.02], sleep=lambda seconds: clock.sleep(seconds + 0.06))
    lag = send_lag(window.attempts)
    assert lag["p99_s"] == pytest.approx(0.06)
    assert lag["degraded"]
    assert max(a.latency_s for a in window.attempts) == pytest.approx(0.06)
    assert not send_lag(window.attempts[:0])["degraded"]


def test_requests_beyond_all_room_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not delays: with room for one, the second of two is not sent."""
    monkeypatch.setattr(load, "MOST_IN_FLIGHT", 1)
    second_refused = threading.Event()
    window = Window(FakeSystem(lambda _: bool(second_refused.wait(30))), WORKLOAD, clock=FakeTime())
    window.on_attempt = lambda attempt, _: attempt.error and second_refused.set()
    open_loop(window, [0.0, 0.0])
    assert sorted(a.error for a in window.attempts) == ["", CROWDED]


def test_failures_are_kept_with_their_reason() -> None:
    """And the run goes on."""

    def work(item: WorkItem) -> None:
        if item.seed == 1:
            raise ServerBusy("no room")

    window = Window(FakeSystem(work), WORKLOAD)
    single_stream(window, range(3))
    assert [a.error for a in window.attempts] == ["", "SERVER_BUSY", ""]
    assert window.attempts[1].latency_s == float("inf")
    assert list(window.attempts[1].pictures_s) == ["small"]


def test_a_closed_loop_shares_the_items() -> None:
    """Three clients at once, each item asked for once."""
    together = threading.Barrier(3)
    system = FakeSystem(lambda _: bool(together.wait(30) + 1))
    window = Window(system, WORKLOAD)
    closed_loop(window, range(9), 3)
    assert sorted(item.seed for item in system.seen) == list(range(9))
    assert sorted(a.number for a in window.attempts) == list(range(9))
