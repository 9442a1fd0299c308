"""Start-time fair queueing: bounds that its paper proves, and what stays for one caller alone."""

import random
from dataclasses import dataclass, field

import pytest

from cascade.errors import InvalidRequest
from runtime_server.config.caller_weights import parse_caller_weights
from runtime_server.runtime.fair_shares import FairShares, FairTurn
from runtime_server.runtime.queue_policy import next_to_start, urgency

AGE = 30.0
"""Seconds until the turn of a request without a deadline."""


@dataclass(eq=False)
class Ask:
    """A request of one component that takes `cost` seconds of the device."""

    caller: str
    came: float
    cost: float
    due: float | None = None
    turn: FairTurn = field(default_factory=FairTurn)
    position: int = 0
    last: int = 0
    begun: bool = False
    started: float = 0.0

    @property
    def priority_deadline(self) -> float:
        """As the queue sets it."""
        return self.came + AGE if self.due is None else self.due


def served(asks: list[Ask], weights: dict[str, float] | None = None) -> list[Ask]:
    """The requests in the order in which one device begins them, one at a time, by the policy."""
    shares: FairShares[Ask] = FairShares(weights or {}, lambda ask: ask.cost)
    coming = sorted(asks, key=lambda ask: ask.came)
    waiting: list[Ask] = []
    order: list[Ask] = []
    now = 0.0
    while coming or waiting:
        if not waiting:
            now = max(now, coming[0].came)
            shares.idle()
        while coming and coming[0].came <= now:
            waiting.append(coming.pop(0))
        shares.tag(waiting)
        index = next_to_start(waiting, [], {}, max_running=1, max_waiting_between=1)
        assert index is not None
        ask = waiting.pop(index)
        shares.started(ask)
        ask.started = now
        order.append(ask)
        now += ask.cost
    return order


@pytest.mark.parametrize("came", [0.5, 20.5, 99.5])
def test_a_burst_delays_another_caller_by_one_service_time(came: float) -> None:
    """A hundred requests of one second, and one beside them whenever it comes."""
    burst = [Ask("many", 0.0, 1.0) for _ in range(100)]
    one = Ask("one", came, 1.0)
    served([*burst, one])
    # The request that runs when it comes ends half a second later; nothing else is before it.
    assert one.started == came + 0.5


def test_one_caller_alone_is_served_by_deadline() -> None:
    """Whatever was charged before: shares are between callers."""
    asks = [Ask("one", 0.0, 1.0, due=due) for due in (9.0, 3.0, 7.0, 1.0)]
    late = Ask("one", 1.5, 1.0, due=2.0)
    assert [ask.due for ask in served([*asks, late])] == [1.0, 3.0, 2.0, 7.0, 9.0]


def test_a_deadline_takes_no_turn_from_another_caller() -> None:
    """However near the deadlines of one are, the other's first request is second at the latest."""
    pressing = [Ask("pressing", 0.0, 1.0, due=0.1) for _ in range(20)]
    calm = Ask("calm", 0.0, 1.0)
    assert served([*pressing, calm]).index(calm) <= 1


def test_weights_share_the_device_in_their_proportion() -> None:
    """Three to one, by cost and not by number of requests."""
    asks = [Ask("a", 0.0, 2.0) for _ in range(30)] + [Ask("b", 0.0, 1.0) for _ in range(30)]
    first = served(asks, {"a": 3.0})[:24]
    of_a = sum(ask.cost for ask in first if ask.caller == "a")
    of_b = sum(ask.cost for ask in first if ask.caller == "b")
    assert abs(of_a / 3 - of_b) <= 2 / 3 + 1


@pytest.mark.parametrize("seed", range(30))
def test_callers_with_work_waiting_get_equal_work_within_one_request_each(seed: int) -> None:
    """Theorem 1 of the paper, over random mixes: costs, arrivals, weights, deadlines, callers.

    While two callers have requests waiting, what they got over their weights differs by at most the
    largest request of each over its weight.
    """
    draw = random.Random(seed)
    weights = {f"c{n}": draw.choice([0.5, 1.0, 4.0]) for n in range(4)}
    asks = [
        Ask(
            draw.choice(list(weights)),
            draw.choice([0.0, draw.uniform(0, 60)]),
            draw.choice([0.1, 1.0, draw.uniform(0.1, 8.0)]),
            due=draw.choice([None, draw.uniform(0, 99)]),
        )
        for _ in range(80)
    ]
    order = served(asks, weights)
    largest = {
        caller: max((ask.cost for ask in asks if ask.caller == caller), default=0.0) / weight
        for caller, weight in weights.items()
    }
    for a, b in (("c0", "c1"), ("c1", "c2"), ("c2", "c3"), ("c0", "c3")):
        gap = lowest = highest = 0.0
        for ask in order:
            if not (waits(asks, a, ask.started) and waits(asks, b, ask.started)):
                gap = lowest = highest = 0.0
                continue
            gap += {a: 1, b: -1}.get(ask.caller, 0) * ask.cost / weights[ask.caller]
            # Over every interval, and not only from its beginning.
            lowest, highest = min(lowest, gap), max(highest, gap)
            assert highest - lowest <= largest[a] + largest[b] + 1e-9


def waits(asks: list[Ask], caller: str, now: float) -> bool:
    """Whether a caller has a request that came before `now` and begins then or later."""
    return any(a.caller == caller and a.came <= now <= a.started for a in asks)


def test_the_tags_of_those_that_wait_are_the_order_in_which_they_start() -> None:
    """What a forecast and a position in the queue are made of."""
    asks = [Ask("ab"[n % 2], 0.0, 1.0 + n % 3) for n in range(12)]
    shares: FairShares[Ask] = FairShares({"b": 2.0}, lambda ask: ask.cost)
    shares.tag(asks)
    foretold = sorted(asks, key=urgency)
    assert served(asks, {"b": 2.0}) == foretold


def test_a_begun_request_is_charged_once() -> None:
    """Its later components stand where its first one stood: what was begun is finished."""
    shares: FairShares[Ask] = FairShares({}, lambda ask: ask.cost)
    first, second = Ask("one", 0.0, 5.0), Ask("one", 0.0, 5.0)
    shares.started(first)
    shares.tag([first, second])
    assert (first.turn.start_tag, second.turn.start_tag) == (0.0, 5.0)
    shares.started(first)
    other = Ask("other", 1.0, 1.0)
    shares.tag([second, other])
    assert (second.turn.start_tag, other.turn.start_tag) == (5.0, 0.0)


def test_weights_are_read_from_text() -> None:
    """By caller; a name may hold the sign, as those of certificates do."""
    assert parse_caller_weights("") == {}
    assert parse_caller_weights("ann=2, CN=bob=0.5") == {"ann": 2.0, "CN=bob": 0.5}


@pytest.mark.parametrize("text", ["ann", "=2", "ann=0", "ann=nan", "ann=101", "ann=1,ann=2"])
def test_weights_that_are_none_are_refused(text: str) -> None:
    """By the setting's name, and with what was given."""
    with pytest.raises(InvalidRequest, match="caller_weights: expected CALLER=WEIGHT"):
        parse_caller_weights(text)
