"""Sessions in a virtual world: what `auto` takes against every fixed placement, and how it follows.

The link, the speeds and the sizes are drawn; facts, model, choice and learning are the product's.
"""

import random
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from benchmarks.lib.placement_session import Session, faster_server
from benchmarks.lib.placement_world import World
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.families import cost_of

RTTS_S = (0.0, 0.03, 0.2)
RATES = (0.0, 1e8, 1e7, 1e6)
SPEEDS = (0.5, 2.0, 20.0)


BUNDLES = Path(__file__).parents[3] / "bundles"


@pytest.fixture(scope="module")
def emoji() -> Bundle:
    """The reference cascade; only its manifest is read."""
    return open_bundle(BUNDLES / "emoji-1", runs=())


def world_of(bundle: Bundle, rtt_s: float, bit_s: float, speed: float) -> World:
    """A server so many times as fast as the device, which takes a microsecond for a pixel."""
    here_s = {}
    for spec in bundle.manifest.components:
        cost = cost_of(spec)
        here_s[spec.name] = 0.01 + 1e-6 * cost.pixels / cost.units
    world = World(
        rtt_s=rtt_s, up_bit_s=bit_s, down_bit_s=bit_s, here_s=here_s, there_s={}, noise=0.03
    )
    return faster_server(world, speed)


def slower_by(session: Session) -> float:
    """How much longer the present plan takes than the best fixed placement, as a share."""
    return session.true_seconds(session.plan().places) / session.best()[1] - 1


@pytest.mark.parametrize("cuts_only", [True, False])
def test_over_the_grid_it_is_as_fast_as_the_best_fixed_one(
    emoji: Bundle, *, cuts_only: bool
) -> None:
    """After two requests: never more than 5 % slower, on average within 1 %."""
    found = []
    for rtt_s, bit_s, speed in product(RTTS_S, RATES, SPEEDS):
        world = world_of(emoji, rtt_s, bit_s, speed)
        session = Session(emoji.manifest.components, world, cuts_only=cuts_only)
        for _ in range(2):
            session.step()
        found.append(slower_by(session))
    assert max(found) <= 0.05
    assert sum(found) / len(found) <= 0.01


def test_a_link_that_changes_is_followed_within_three_requests(emoji: Bundle) -> None:
    """From any link to any other, better or worse, with a server that pays on the good ones."""
    shapes = list(product((0.0, 0.2), (0.0, 1e7, 1e6)))
    for before, after in product(shapes, shapes):
        session = Session(emoji.manifest.components, world_of(emoji, *before, 20.0))
        for _ in range(3):
            session.step()
        session.change(world_of(emoji, *after, 20.0))
        for _ in range(3):
            session.step()
        assert slower_by(session) <= 0.05, f"from {before} to {after}"


def test_a_server_that_slows_down_is_left_within_three_requests(emoji: Bundle) -> None:
    """Its own step times say so."""
    fast = world_of(emoji, 0.03, 1e8, 20.0)
    session = Session(emoji.manifest.components, fast)
    for _ in range(3):
        session.step()
    assert not any(session.plan().places)
    session.change(replace(fast, there_s={name: 20 * s for name, s in fast.here_s.items()}))
    for _ in range(3):
        session.step()
    assert all(session.plan().places)


def test_stages_of_pixels_are_planned_by_their_cost() -> None:
    """The same model over another family: units are passes, bytes are those of its pictures."""
    pixels = open_bundle(BUNDLES / "emoji-pixels-1", runs=())
    for bit_s in RATES:
        world = world_of(pixels, 0.03, bit_s, 5.0)
        session = Session(pixels.manifest.components, world, cuts_only=False)
        for _ in range(2):
            session.step()
        assert slower_by(session) <= 0.05


def test_noise_does_not_move_the_choice_far(emoji: Bundle) -> None:
    """With durations that vary by a tenth, what is taken on average stays near the best."""
    world = replace(world_of(emoji, 0.03, 1e7, 2.0), noise=0.1)
    session = Session(emoji.manifest.components, world, chance=random.Random(3))
    taken = [session.true_seconds(session.step()[0]) for _ in range(20)]
    assert sum(taken[2:]) / 18 / session.best()[1] <= 1.05
