"""Formats that a time chooses, against closed forms of a shaped link."""

from dataclasses import replace

import pytest

from runtime_client.cli.plan_table import render_plan
from runtime_client.planning.choice import choose
from runtime_client.planning.cost_model import (
    ComponentFacts,
    EncodingFacts,
    LinkFacts,
    Places,
    predict,
)
from runtime_client.planning.facts import Sources
from runtime_client.planning.placement_plan import EnergyFacts, PlacementPlan, PlanInputs, plan_of
from runtime_client.wish import Wish

LOSSY = ("avif", "webp90", "jpeg")
LINK = LinkFacts(rtt_s=0.5, up_bytes_s=1000.0, down_bytes_s=1000.0)
SMALL = ComponentFacts(
    name="small", here_s=4.0, there_s=1.0, takes_words=True, starts_bytes=500, up_bytes=600,
    down_bytes=1000, lossy={name: EncodingFacts(down_bytes=100, pack_s=0.0) for name in LOSSY},
)  # fmt: skip
LARGE = ComponentFacts(
    name="large", here_s=16.0, there_s=2.0, needs_picture=True, up_bytes=8000, down_bytes=8000,
    pack_s=0.25, lossy={
        "avif": EncodingFacts(down_bytes=1500, pack_s=1.0),
        "webp90": EncodingFacts(down_bytes=1000, pack_s=0.5),
        "jpeg": EncodingFacts(down_bytes=1250, pack_s=0.125),
    },
)  # fmt: skip
CASCADE = (SMALL, LARGE)
THERE = (False, False)
WORK_S = 0.5 + 0.5 + 1.0 + 2.0
"""The call up, the round trip, and both components on the server; the small picture hides."""


def plan(wish: Wish, given: Places | None = THERE, lossy: tuple[str, ...] = LOSSY) -> PlacementPlan:
    """Of `CASCADE`, where the placement is given unless it is None."""
    sources = Sources(here={}, there={}, link=dict.fromkeys(("rtt", "up", "down"), "measured"))
    inputs = PlanInputs(
        components=CASCADE,
        link=LINK,
        sources=sources,
        energy=EnergyFacts(cpu_per_s=1.0, joules_per_s=None),
        server="server:1",
        network="wire",
        cuts_only=True,
        lossy=lossy,
        given=given,
    )
    return plan_of(inputs, wish)


@pytest.mark.parametrize(
    ("format_", "tail_s"),
    [("", 0.25 + 8.0), ("avif", 1.0 + 1.5), ("webp90", 0.5 + 1.0), ("jpeg", 0.125 + 1.25)],
)
def test_a_format_changes_what_the_last_picture_takes(format_: str, tail_s: float) -> None:
    """Encoding and the line behind all work; the bytes are those of every picture of the hop."""
    run = predict(CASCADE, LINK, THERE, format_)
    assert run.seconds == pytest.approx(WORK_S + tail_s)
    small = SMALL.lossy[format_].down_bytes if format_ else SMALL.down_bytes
    large = LARGE.lossy[format_].down_bytes if format_ else LARGE.down_bytes
    assert (run.bytes_down, run.format) == (small + large, format_)


def test_what_another_hop_begins_with_keeps_its_pixels() -> None:
    """The small picture comes without loss where the large one is made here."""
    places = (False, True)
    assert replace(predict(CASCADE, LINK, places, "jpeg"), format="") == predict(
        CASCADE, LINK, places
    )
    formats = {(run.places, run.format) for run in plan(Wish(within_s=1.0), given=None).runs}
    assert formats == {((True, True), "")} | {
        (places, format_) for places in ((True, False), THERE) for format_ in ("", *LOSSY)
    }


@pytest.mark.parametrize(
    ("within_s", "format_", "met"),
    [
        # Nine tenths of the limit count: 12.25 s, 6.5 s, 5.5 s and 5.375 s are predicted.
        (13.7, "", True),
        (13.5, "avif", True),
        (7.2, "webp90", True),
        (6.1, "jpeg", True),
        (5.9, "jpeg", False),
    ],
)
def test_the_least_loss_that_is_in_time_is_taken(
    within_s: float, format_: str, *, met: bool
) -> None:
    """Not the fewest bytes of what is in time; where nothing is, the fastest."""
    found = plan(Wish(within_s=within_s))
    assert (found.format, found.choice.met, found.places) == (format_, met, THERE)
    assert found.picture_format == (format_ or None)
    assert plan(Wish(within_s=within_s), lossy=()).format == ""


def test_a_placement_without_loss_comes_before_any_with_it() -> None:
    """All here in 20 s is taken although a picture with loss needs a quarter and fewer bytes."""
    found = plan(Wish(within_s=22.3, least="bytes"), given=None)
    assert (found.places, found.format) == ((True, True), "")
    # Without loss there in 12.25 s: of those in time the one that moves the fewest bytes.
    found = plan(Wish(within_s=14.0), given=None)
    assert (found.places, found.format) == (THERE, "")
    # Where none is, both are chosen together: the small component here would be 4 s later.
    found = plan(Wish(within_s=12.0), given=None)
    assert (found.places, found.format) == (THERE, "avif")


def test_without_a_time_no_pixel_is_lost() -> None:
    """Runs with loss are not even looked at."""
    runs = plan(Wish(least="bytes"), lossy=()).runs
    assert [run.format for run in runs] == [""]
    assert choose(runs, Wish()).run.format == ""


def test_a_plan_says_that_pixels_are_lost() -> None:
    """In its object and above its table; the rows name their formats."""
    told = plan(Wish(within_s=7.2)).as_object()
    assert told["format"] == "webp90"
    taken = [run for run in told["placements"] if run["chosen"]]
    assert [run["format"] for run in taken] == ["webp90"]
    rest = [run["format"] for run in told["placements"][1:]]
    assert rest == ["lossless", "avif", "jpeg"]
    table = render_plan(told)
    assert "within 7.2 s; pictures as webp90, which loses pixels" in table
    assert "* all there; webp90" in table
    kept = render_plan(plan(Wish(within_s=99.0)).as_object())
    assert "pixels" not in kept
