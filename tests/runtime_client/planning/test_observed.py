"""From the events of a request to numbers: rates solved from waits, work per unit, sizes."""

import pytest

from cascade.cost import Cost
from cascade.events import Event, Resumed, StageFinished, Transferred
from cascade.request import Handoff
from runtime_client.planning.learned import Learned
from runtime_client.planning.observed import (
    RunSeen,
    learn_device,
    learn_link,
    rate_of,
    tail_s,
)

COSTS = {
    "text": Cost(runs={"net": 1}, units=1, pixels=0, result_bytes=1000),
    "base": Cost(runs={"net": 4}, units=4, pixels=400, result_bytes=100_000),
    "large": Cost(runs={"net": 2}, units=2, pixels=800, result_bytes=1_000_000),
}
HERE = {"text": True, "base": False, "large": False}


def seen(*more: Event) -> RunSeen:
    """Text here; two components there; 400 kB in 0.4 s after the end of the work."""
    run = RunSeen()
    transfer = Transferred(
        bytes_up=50_000, bytes_down=440_000, seconds={"download": 0.4},
        packing={"server pack": 0.03, "unpack": 0.02}, call_bytes=50_000, first_s=0.6,
        result_bytes={"base": 40_000, "large": 400_000},
    )  # fmt: skip
    events = (
        StageFinished("text", Handoff(), {"tokenise": 0.01, "encode": 0.04}),
        StageFinished("base", Handoff(), {"base": 2.0, "queue": 9.0}),
        *more,
        StageFinished("large", Handoff(), {"large": 3.0}),
        transfer,
    )
    for event in events:
        run.add(event, HERE)
    return run


def test_a_tail_is_what_is_left_on_the_line() -> None:
    """Of results that were through before, nothing; on a slow line, all that queue."""
    results = [(1.0, 100), (1.0, 400)]
    assert tail_s(results, 1000.0) == pytest.approx(0.4)
    assert tail_s(results, 10.0) == pytest.approx(10.0 + 40.0 - 1.0)


@pytest.mark.parametrize("rate", [200.0, 5e3, 1.25e5, 1.25e7])
def test_a_rate_is_found_from_the_tail_that_it_leaves(rate: float) -> None:
    """The inverse of `tail_s`."""
    results = [(0.04, 6000), (0.1, 80_000), (0.3, 900_000)]
    assert rate_of(results, tail_s(results, rate)) == pytest.approx(rate, rel=1e-6)


def test_work_is_learned_per_unit_and_without_the_queue() -> None:
    """On the side where it ran."""
    device, link = Learned(), Learned()
    learn_device(device, seen(), COSTS, 1.0)
    learn_link(link, seen(), COSTS, 1.0)
    assert device.value("here.text") == pytest.approx(0.05)
    assert link.value("there.base") == pytest.approx(0.5)
    assert link.value("there.large") == pytest.approx(1.5)
    assert link.value("down.large") == pytest.approx(0.4)
    assert link.value("pack") == pytest.approx(0.05 / 1_000_000)


def test_rates_are_learned_from_what_was_waited_for() -> None:
    """Up beyond a known round trip; down from the end of the work."""
    link = Learned()
    link.note("rtt", 0.1, 1.0)
    learn_link(link, seen(), COSTS, 1.0)
    assert link.value("up") == pytest.approx(50_000 / 0.5)
    assert link.value("down") == pytest.approx(400_000 / 0.4)


def test_a_connection_that_broke_says_nothing_of_the_line() -> None:
    """Of the work it does."""
    link = Learned()
    link.note("rtt", 0.1, 1.0)
    learn_link(link, seen(Resumed("gone")), COSTS, 1.0)
    assert (link.value("up"), link.value("down")) == (None, None)
    assert link.value("there.large") == pytest.approx(1.5)
