"""The simulated fleet against what queueing theory says in closed form, and its bounds."""

import argparse

import numpy as np
import pytest

from bench.arrivals import Arrivals, schedule
from benchmarks.fleet import SWING, by_limit, daily
from benchmarks.lib.fleet_model import (
    ROUTERS,
    Fleet,
    Router,
    Seconds,
    in_turn,
    percentiles,
    simulate,
)

SERVICE_S = 0.5


def poisson(load: float, replicas: int, count: int = 5_000) -> Seconds:
    """Arrivals at a share of what so many replicas can do."""
    return schedule(Arrivals(rate_per_s=load * replicas / SERVICE_S, seed=3), count)


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_one_replica_waits_as_pollaczek_and_khinchine_say(load: float, spread: float) -> None:
    """Mean wait of M/G/1: `load S (1 + spread^2) / (2 (1 - load))`."""
    waits = simulate(
        Fleet(replicas=1, service_s=SERVICE_S, spread=spread), poisson(load, 1, 12_000)
    )
    expected = load * SERVICE_S * (1 + spread**2) / (2 * (1 - load))
    assert waits.queued_s.mean() == pytest.approx(expected, rel=0.1)
    assert waits.replica_busy == pytest.approx(load, rel=0.03)


def test_a_random_router_makes_many_queues_of_one() -> None:
    """Poisson arrivals split at random are Poisson: each replica waits as one alone does."""
    fleet = Fleet(replicas=8, service_s=SERVICE_S, router="random")
    waits = simulate(fleet, poisson(0.7, 8, 12_000))
    assert waits.queued_s.mean() == pytest.approx(0.7 * SERVICE_S / 0.6, rel=0.1)


def test_who_knows_everything_makes_nobody_wait_while_one_is_idle() -> None:
    """The least backlog of reports without age is one queue for all: the best there is."""
    fleet, comes = Fleet(replicas=8, service_s=SERVICE_S), poisson(0.9, 8)
    best = simulate(fleet, comes)
    ends = np.zeros(8)
    queued = np.empty_like(comes)
    for number, now in enumerate(comes):
        first = ends.argmin()
        queued[number] = max(0.0, ends[first] - now)
        ends[first] = max(now, ends[first]) + SERVICE_S
    np.testing.assert_allclose(best.queued_s, queued, atol=1e-9)


def test_counting_what_one_sent_bears_old_reports_and_reports_alone_do_not() -> None:
    """Reports two services old: two choices by them all send where the queue was short."""
    late = {
        router: simulate(
            Fleet(replicas=16, service_s=SERVICE_S, router=router, report_every_s=1.0),
            poisson(0.8, 16),
        ).queued_s.mean()
        for router in ROUTERS
    }
    assert late["least backlog"] < late["random"] / 4
    assert late["two choices"] > late["least backlog"]


@pytest.mark.parametrize("router", ROUTERS)
def test_nothing_is_lost_and_nothing_waits_when_all_is_idle(router: Router) -> None:
    """One request at a time: no wait but its own way through door and line."""
    comes = np.arange(50) * 10.0
    fleet = Fleet(
        replicas=4, service_s=SERVICE_S, router=router, report_every_s=2.0, doors=3,
        door_s=0.01, picture_bytes=1e6, door_bytes_s=1e7,
    )  # fmt: skip
    waits = simulate(fleet, comes)
    np.testing.assert_allclose(waits.waited_s, 0.01 + 0.1)


def test_a_line_that_is_too_thin_is_where_requests_wait() -> None:
    """Its time and not the replicas' decides the pace."""
    fleet = Fleet(replicas=4, service_s=SERVICE_S, picture_bytes=1e6, door_bytes_s=4e6)
    waits = simulate(fleet, poisson(0.8, 4, 2_000))
    assert waits.line_busy == pytest.approx(1.0, abs=0.02)
    assert waits.on_line_s.mean() > 20 * waits.queued_s.mean()


def test_one_server_in_order_of_arrival() -> None:
    """By hand: busy, idle, busy."""
    comes = np.array([0.0, 1.0, 5.0, 5.5])
    np.testing.assert_allclose(in_turn(comes, 2.0), [2.0, 4.0, 7.0, 9.0])
    np.testing.assert_allclose(in_turn(comes, np.array([3.0, 1.0, 0.25, 2.0])), [3, 4, 5.25, 7.5])
    assert percentiles(np.array([0.001, 0.002, 0.003]), (50,)) == [2.0]


def test_a_day_has_a_busy_half() -> None:
    """As many arrivals as asked for at the average rate; the busy half of each day has more."""
    comes = daily(20_000, 5.0)
    assert len(comes) / comes[-1] == pytest.approx(5.0, rel=0.05)
    assert (np.diff(comes) >= 0).all()
    in_day = comes / comes[-1] * 2 % 1
    # Of a sine of that swing the busy half has 1/2 + SWING / pi of the work.
    assert (in_day < 0.5).mean() == pytest.approx(0.5 + SWING / np.pi, abs=0.02)


def test_where_requests_wait_longest_behind_one_door() -> None:
    """Few replicas: in their queue. A thousand: at the door that is asked for more than it can."""
    fleet = Fleet(replicas=1, service_s=0.65, door_s=0.006, picture_bytes=6e5, door_bytes_s=125e6)
    found = by_limit(argparse.Namespace(requests=1000, shape=0.25), fleet)
    assert {found[f"10 {kind}"]["limit"] for kind in ("even", "bursts", "daily")} == {"queue"}
    assert found["1000 even"]["limit"] == "door"
