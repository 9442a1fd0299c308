"""The link meter over a link of known shape, in virtual time."""

from dataclasses import replace
from typing import cast

import pytest

from benchmarks.lib.placement_session import VirtualLink
from benchmarks.lib.placement_world import World
from cascade.errors import TransportError
from runtime_client.planning.learned import Learned
from runtime_client.planning.link_meter import LinkMeter, probe_bytes
from runtime_client.remote.server_link import ServerLink
from wire.server_info import InfoCall, ServerInfo

WORLD = World(rtt_s=0.08, up_bit_s=8e6, down_bit_s=80e6, here_s={}, there_s={}, call_s=0.0)


class CountingLink(VirtualLink):
    """A link of a given shape; keeps what was asked of it."""

    def __init__(self, world: World, *, old: bool = False, dead: bool = False) -> None:
        """A link.

        Args:
            world: its shape.
            old: whether the server ignores what it should fill up.
            dead: whether it does not answer.
        """
        super().__init__(world)
        self.calls: list[InfoCall] = []
        self._old, self._dead = old, dead

    def measured_info(self, call: InfoCall, *, timeout_s: float) -> tuple[ServerInfo, float]:
        """The virtual link's answer."""
        self.calls.append(call)
        if self._dead:
            raise TransportError("gone")
        info, seconds = super().measured_info(call, timeout_s=timeout_s)
        return (replace(info, padding=b"") if self._old else info), seconds

    @property
    def filled(self) -> list[str]:
        """Which ways were measured, in order."""
        ways = [("up", bool(c.padding)) for c in self.calls]
        ways += [("down", bool(c.reply_padding_bytes)) for c in self.calls]
        return [way for way, used in ways if used]


def meter_of(link: CountingLink, learned: Learned, now_s: float = 100.0) -> LinkMeter:
    """A meter whose clock stands still."""
    return LinkMeter(cast(ServerLink, link), learned, lambda: now_s)


def test_round_trip_and_rates_are_those_of_the_link() -> None:
    """At a first contact all three are measured, within the bytes of the messages themselves."""
    link, learned = CountingLink(WORLD), Learned()
    assert meter_of(link, learned).measure(used_link=False, sparing=False) is not None
    assert learned.value("rtt") == pytest.approx(0.08, rel=0.01)
    assert learned.value("up") == pytest.approx(1e6, rel=0.02)
    assert learned.value("down") == pytest.approx(1e7, rel=0.02)
    assert link.filled == ["up", "up", "down", "down"]


def test_what_requests_show_is_measured_again_only_when_old_or_in_doubt() -> None:
    """A request that moved bytes spares the probes; one that moved none does not."""
    link, learned = CountingLink(WORLD), Learned()
    meter_of(link, learned).measure(used_link=False, sparing=False)
    link.calls.clear()
    meter_of(link, learned, 110.0).measure(used_link=True, sparing=False)
    assert link.filled == []
    meter_of(link, learned, 110.0).measure(used_link=False, sparing=False)
    assert set(link.filled) == {"up", "down"}
    link.calls.clear()
    meter_of(link, learned, 150.0).measure(used_link=True, sparing=False)
    assert set(link.filled) == {"up", "down"}
    link.calls.clear()
    link.world = replace(WORLD, rtt_s=0.3)
    meter_of(link, learned, 151.0).measure(used_link=True, sparing=False)
    assert set(link.filled) == {"up", "down"}


def test_who_spares_bytes_measures_rates_once() -> None:
    """What is unknown is measured; then the round trip alone."""
    link, learned = CountingLink(WORLD), Learned()
    meter_of(link, learned).measure(used_link=False, sparing=True)
    assert set(link.filled) == {"up", "down"}
    link.calls.clear()
    meter_of(link, learned, 900.0).measure(used_link=False, sparing=True)
    assert link.filled == []


def test_a_server_that_fills_nothing_up_leaves_the_rate_down_unknown() -> None:
    """An older one; its pictures will tell."""
    link, learned = CountingLink(WORLD, old=True), Learned()
    meter_of(link, learned).measure(used_link=False, sparing=False)
    assert learned.value("up") is not None
    assert learned.value("down") is None


def test_a_server_that_is_gone_is_no_error_here() -> None:
    """The next request meets it."""
    learned = Learned()
    gone = CountingLink(WORLD, dead=True)
    assert meter_of(gone, learned).measure(used_link=False, sparing=False) is None
    assert learned.numbers == {}


@pytest.mark.parametrize(("rate", "size"), [(1.0, 4096), (1e6, 50_000), (1e9, 65_536)])
def test_a_probe_takes_a_twentieth_of_a_second(rate: float, size: int) -> None:
    """Within 4 and 64 KiB."""
    assert probe_bytes(rate) == size
