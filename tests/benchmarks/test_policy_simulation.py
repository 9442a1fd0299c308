"""The simulation against answers that are known by hand."""

import pytest

from benchmarks.lib.policy_simulation import (
    StageTiming,
    StepJoining,
    WholeRequests,
    one_at_a_time,
    poisson,
    step_joining,
    waits,
)

GAINS = StageTiming(name="a", steps=4, run_s={1: 1.0, 2: 1.2, 4: 1.6})
GAINS_NOTHING = StageTiming(name="b", steps=4, run_s={1: 1.0, 2: 2.0}, host_s=0.25)


def test_one_at_a_time_by_hand() -> None:
    """Who comes while another is served waits for its end."""
    assert one_at_a_time([0.0, 1.0, 20.0], [GAINS]) == [4.0, 8.0, 24.0]


def test_whole_requests_by_hand() -> None:
    """The second comes in time for the first's batch, the third waits for its end."""
    policy = WholeRequests(size=2, delay_s=0.5)
    assert policy([0.0, 0.5, 1.0], [GAINS]) == pytest.approx([5.3, 5.3, 9.3])
    assert policy([0.0, 10.0], [GAINS]) == pytest.approx([4.5, 14.5])


def test_step_joining_by_hand() -> None:
    """The second joins after the first's first step: three shared, then one alone."""
    run = StepJoining([GAINS])
    assert run.run([0.0, 0.5]) == pytest.approx([1.0 + 3 * 1.2, 1.0 + 3 * 1.2 + 1.0])
    assert run.rows == [1, 2, 2, 2, 1]


def test_the_caps_follow_the_times() -> None:
    """As the server decides, unless an operator did."""
    assert (GAINS.cap, GAINS_NOTHING.cap) == (4, 1)
    assert StageTiming(name="c", steps=1, run_s={1: 1.0}, max_rows=3).cap == 3
    assert GAINS.seconds(3) == pytest.approx(1.4)
    assert GAINS_NOTHING.seconds(3) == pytest.approx(3.0)


@pytest.mark.parametrize("load", [0.5, 0.8, 1.2])
@pytest.mark.parametrize(
    "cascade", [[GAINS_NOTHING], [GAINS_NOTHING, GAINS_NOTHING]], ids=["one", "two"]
)
def test_where_batches_gain_nothing_nothing_is_lost(
    load: float, cascade: list[StageTiming]
) -> None:
    """To the last request: the server's policy is then one at a time."""
    arrivals = poisson(sum(s.alone_s for s in cascade), load, 200)
    assert step_joining(arrivals, cascade) == pytest.approx(one_at_a_time(arrivals, cascade))


def test_everybody_is_served_and_nobody_before_it_came() -> None:
    """However overloaded, through every component, with host work on the way."""
    cascade = [
        StageTiming(name="a", steps=3, run_s={1: 1.0, 2: 1.1, 4: 1.4, 8: 2.0}, host_s=0.1),
        StageTiming(name="b", steps=2, run_s={1: 2.0, 2: 3.0, 4: 5.0}, host_s=0.3),
    ]
    alone_s = sum(s.alone_s for s in cascade)
    arrivals = poisson(alone_s, 3.0, 150)
    ends = step_joining(arrivals, cascade)
    assert len(ends) == 150
    assert all(e - a >= alone_s - 1e-9 for a, e in zip(arrivals, ends, strict=True))
    figures = waits(arrivals, ends, alone_s)
    assert 0 <= figures.p50_s <= figures.p95_s <= figures.p99_s
    assert figures.latency_p95_s == pytest.approx(figures.p95_s + alone_s)
