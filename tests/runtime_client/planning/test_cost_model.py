"""The cost model against closed forms, and against a walk through a virtual world."""

import random
from dataclasses import replace
from itertools import pairwise, product

import pytest

from benchmarks.lib.placement_session import Session
from benchmarks.lib.placement_world import World
from cascade.bundle.bundle import Bundle
from runtime_client.planning.choice import allows, choose
from runtime_client.planning.cost_model import (
    ComponentFacts,
    LinkFacts,
    PredictedRun,
    placements,
    predict,
)
from runtime_client.wish import Wish

LINK = LinkFacts(rtt_s=0.1, up_bytes_s=1000.0, down_bytes_s=2000.0)
ENCODER = ComponentFacts(
    name="text", here_s=1.0, there_s=0.5, makes_context=True, takes_words=True, starts_bytes=100,
    up_bytes=300, down_bytes=300,
)  # fmt: skip
BASE = ComponentFacts(
    name="base", here_s=4.0, there_s=2.0, needs_context=True, up_bytes=1000, down_bytes=1000,
    load_s=0.25,
)  # fmt: skip
LARGE = ComponentFacts(
    name="large", here_s=8.0, there_s=1.0, needs_context=True, needs_picture=True, up_bytes=8000,
    down_bytes=8000, queue_s=0.5, pack_s=0.125,
)  # fmt: skip
CASCADE = (ENCODER, BASE, LARGE)


def places_of(letters: str) -> tuple[bool, ...]:
    """`hht` is here, here, there."""
    return tuple(letter == "h" for letter in letters)


def seconds(letters: str, link: LinkFacts = LINK) -> float:
    """Of a placement of `CASCADE`."""
    return predict(CASCADE, link, places_of(letters)).seconds


def test_everything_here_is_its_work_and_its_loading() -> None:
    """No byte moves, and no link is waited for."""
    run = predict(CASCADE, LINK, (True, True, True))
    assert (run.seconds, run.bytes, run.calls) == (13.25, 0, 0)


def test_everything_there_is_one_call() -> None:
    """The prompt up, work and queue, what is left on the line behind the last result, a round trip.

    The small results are through while the next component works.
    """
    run = predict(CASCADE, LINK, (False, False, False))
    assert run.seconds == pytest.approx(0.1 + 0.1 + 0.5 + 2.0 + 0.5 + 1.0 + 0.125 + 4.0)
    assert (run.bytes_up, run.bytes_down, run.calls) == (100, 9300, 1)
    assert run.wait_s == pytest.approx(0.1 + 0.1 + 0.125 + 4.0)


def test_a_context_goes_up_behind_the_work_of_the_device() -> None:
    """At cut 2 only the picture is waited for; on a slow line the context is, too."""
    tail = 1.0 + 0.1 + 0.5 + 1.0 + 0.125 + 4.0
    assert seconds("hht") == pytest.approx(0.25 + 1.0 + 4.0 + tail)
    slow = replace(LINK, up_bytes_s=10.0)
    context = 0.25 + 1.0 + 0.1 + 30.0
    assert seconds("hht", link=slow) == pytest.approx(context + tail - 1.0 + 100.0)


def test_a_context_that_is_needed_at_once_goes_along() -> None:
    """At cut 1 it is in the call, without a round trip of its own."""
    work = 2.0 + 0.5 + 1.0 + 0.125 + 4.0
    assert seconds("htt") == pytest.approx(1.0 + 0.3 + 0.1 + work)
    assert predict(CASCADE, LINK, (True, False, False)).bytes_up == 300


def test_results_queue_on_a_slow_line() -> None:
    """The last one waits for those before it."""
    slow = replace(LINK, down_bytes_s=10.0)
    assert seconds("ttt", link=slow) == pytest.approx(0.1 + 0.1 + 0.5 + 30 + 100 + 800)


def test_only_what_both_sides_can_do_is_listed() -> None:
    """None on one side leaves the other; cuts are those mixtures that begin here."""
    assert len(list(placements(CASCADE, cuts_only=False))) == 8
    cuts = list(placements(CASCADE, cuts_only=True))
    assert cuts == [(True,) * 3, (True, True, False), (True, False, False), (False,) * 3]
    fixed = (ENCODER, replace(BASE, there_s=None), replace(LARGE, here_s=None))
    assert list(placements(fixed, cuts_only=True)) == [(True, True, False)]
    assert list(placements(fixed, cuts_only=False)) == [(True, True, False), (False, True, False)]


@pytest.mark.parametrize("number", range(12))
def test_predictions_are_what_a_walk_through_the_world_takes(bundle: Bundle, number: int) -> None:
    """All sixteen placements of a bundle, on a drawn link, with the facts of that world.

    The walk counts the bytes through the arithmetic of the shaped link.
    """
    session = Session(bundle.manifest.components, drawn_world(bundle, number), cuts_only=False)
    facts, link = exact_facts(session)
    for places in product((True, False), repeat=len(facts)):
        expected = session.true_seconds(places)
        assert predict(facts, link, places).seconds == pytest.approx(expected, rel=1e-6), places


@pytest.mark.parametrize("number", range(12))
def test_the_choice_is_the_best_of_all_walks(bundle: Bundle, number: int) -> None:
    """Brute force over every placement finds nothing faster than what is chosen."""
    session = Session(bundle.manifest.components, drawn_world(bundle, number), cuts_only=False)
    facts, link = exact_facts(session)
    runs = [predict(facts, link, places) for places in placements(facts, cuts_only=False)]
    chosen = choose(runs, Wish()).run.places
    assert session.true_seconds(chosen) == pytest.approx(session.best()[1], rel=1e-6)


def drawn_world(bundle: Bundle, number: int) -> World:
    """A link, a device and a server, drawn by a number."""
    chance = random.Random(number)
    names = [spec.name for spec in bundle.manifest.components]
    return World(
        rtt_s=chance.choice((0.0, 0.005, 0.08, 0.2)),
        up_bit_s=chance.choice((1e4, 1e5, 1e6, 1e8)),
        down_bit_s=chance.choice((1e4, 1e5, 1e6, 1e8)),
        here_s={name: chance.uniform(0.001, 0.1) for name in names},
        there_s={name: chance.uniform(0.001, 0.1) for name in names},
        call_s=0.0,
        pack_s_per_byte=chance.choice((0.0, 1e-6)),
        context_bytes=4000,
    )


def exact_facts(session: Session) -> tuple[list[ComponentFacts], LinkFacts]:
    """What a planner would know that was told the truth."""
    world = session.world
    plan = session.plan()
    share = world.picture_share
    facts = []
    for spec in plan.components:
        raw = session.cost(spec.name)
        size = world.context_bytes if spec.makes_context else 200 + round(share * raw.result_bytes)
        pack_s = 0.0 if spec.makes_context else world.pack_s_per_byte * raw.result_bytes
        facts.append(
            replace(
                spec, there_s=world.there_s[spec.name] * raw.units, up_bytes=size, down_bytes=size,
                pack_s=pack_s, starts_bytes=240,
            )
        )  # fmt: skip
    link = LinkFacts(
        rtt_s=world.rtt_s, up_bytes_s=world.up_bit_s / 8, down_bytes_s=world.down_bit_s / 8
    )
    return facts, link


@pytest.mark.parametrize("number", range(40))
def test_a_worse_uplink_never_moves_more_bytes_up(number: int) -> None:
    """As the rate falls, what is chosen takes longer and sends no more."""
    facts = drawn_facts(random.Random(number))
    rates = [10.0**power for power in (7, 6, 5, 4, 3)]
    chosen = []
    for rate in rates:
        link = LinkFacts(rtt_s=0.03, up_bytes_s=rate, down_bytes_s=1e5)
        runs = [predict(facts, link, p) for p in placements(facts, cuts_only=False)]
        chosen.append(choose(runs, Wish()).run)
    for before, after in pairwise(chosen):
        assert after.bytes_up <= before.bytes_up
        assert after.seconds >= before.seconds - 1e-12


@pytest.mark.parametrize("number", range(20))
def test_a_slower_device_never_gets_more_work(number: int) -> None:
    """Its work, counted at its first speed, does not grow as it slows down."""
    facts = drawn_facts(random.Random(number))
    amounts = []
    for factor in (0.1, 0.5, 1.0, 2.0, 10.0):
        slowed = [replace(spec, here_s=factor * (spec.here_s or 0)) for spec in facts]
        link = LinkFacts(rtt_s=0.03, up_bytes_s=1e5, down_bytes_s=1e5)
        runs = [predict(slowed, link, p) for p in placements(slowed, cuts_only=False)]
        amounts.append(choose(runs, Wish()).run.here_s / factor)
    assert all(after <= before + 1e-9 for before, after in pairwise(amounts))


def drawn_facts(chance: random.Random) -> list[ComponentFacts]:
    """Picture stages alone: a context that is hidden behind work is not linear in the rate."""
    return [
        ComponentFacts(
            name=f"stage{at}",
            here_s=chance.uniform(0.01, 2),
            there_s=chance.uniform(0.01, 2),
            starts_bytes=200,
            needs_picture=at > 0,
            up_bytes=chance.randrange(100, 100_000),
            down_bytes=chance.randrange(100, 100_000),
        )
        for at in range(4)
    ]


def run_of(seconds: float, size: int, here_s: float, letters: str) -> PredictedRun:
    """A prediction."""
    return PredictedRun(
        places=places_of(letters), seconds=seconds, here_s=here_s, there_s=0, queue_s=0, bytes_up=0,
        bytes_down=size,
    )  # fmt: skip


RUNS = (
    run_of(3.0, 0, 3.0, "hh"),
    run_of(1.0, 500, 1.0, "ht"),
    run_of(0.5, 900, 0.0, "tt"),
)


@pytest.mark.parametrize(
    ("wish", "chosen", "met"),
    [
        (Wish(), 2, True),
        (Wish(least="bytes"), 0, True),
        (Wish(least="energy"), 2, True),
        (Wish(within_s=10), 0, True),
        (Wish(within_s=2), 1, True),
        (Wish(within_s=1.0), 2, True),
        (Wish(within_s=0.4), 2, False),
        (Wish(within_s=10, least="time"), 2, True),
        (Wish(within_s=2, least="energy"), 2, True),
    ],
)
def test_wishes(wish: Wish, chosen: int, *, met: bool) -> None:
    """A limit takes the fewest bytes in nine tenths of it, or the fastest if nothing is in time."""
    choice = choose(RUNS, wish)
    assert (RUNS.index(choice.run), choice.met) == (chosen, met)


def test_of_equal_ones_fewer_bytes_then_fewer_calls_then_more_here() -> None:
    """The first listed wins the last tie, and those with more components here are listed first."""
    first = run_of(1.0, 5, 0.0, "hh")
    assert choose([run_of(1.0, 9, 0.0, "th"), first], Wish()).run is first
    split = run_of(1.0, 5, 0.0, "tht")
    joined = run_of(1.0, 5, 0.0, "htt")
    assert choose([split, joined], Wish()).run is joined
    assert choose([first, run_of(1.0, 5, 0.0, "hh")], Wish()).run is first


def test_words_that_stay_here_leave_the_encoder_here() -> None:
    """What starts from the prompt runs here; the rest may run anywhere."""
    wish = Wish(words_stay_here=True)
    kept = [p for p in placements(CASCADE, cuts_only=False) if allows(wish, CASCADE, p)]
    assert len(kept) == 4
    assert all(places[0] for places in kept)
