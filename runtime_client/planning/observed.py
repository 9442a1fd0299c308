"""What a finished request tells of this machine and of the way to a server.

From a run's events to numbers in `Learned`. Knows events; no clock and no file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cascade.cost import Cost
from cascade.events import Event, Resumed, StageFinished, Transferred
from runtime_client.config import LOSSY_FORMATS
from runtime_client.planning.learned import Learned

LEAST_RATE, MOST_RATE = 1e2, 1e10
"""Bytes per second between which a rate is looked for."""
HALVINGS = 60
ENOUGH_BYTES = 32 << 10
"""Fewer say more of the round trip than of the rate."""
LEAST_WAIT_S = 0.002
"""What a clock and a scheduler may add or hide: a shorter wait says nothing of a rate."""


@dataclass(frozen=True, slots=True)
class HopSeen:
    """A hop on a server as it went."""

    results: tuple[tuple[str, float, int], ...]
    """Component, seconds of its work, and bytes of its result as it came; in order."""
    traffic: Transferred


@dataclass(slots=True)
class RunSeen:
    """Events of one request, taken in as they come."""

    here: dict[str, float] = field(default_factory=dict)
    """Seconds by component that ran here."""
    hops: list[HopSeen] = field(default_factory=list)
    broken: bool = False
    """Whether a connection broke: what was waited for then was not the link."""
    _there: list[tuple[str, float]] = field(default_factory=list)
    _queue_s: float = 0.0

    def add(self, event: Event, here: Mapping[str, bool]) -> None:
        """Take in one event.

        Args:
            event: of the request.
            here: whether a component runs here, by name.
        """
        if isinstance(event, Resumed):
            self.broken = True
        elif isinstance(event, StageFinished):
            seconds = sum(s for name, s in event.seconds.items() if name != "queue")
            if here.get(event.stage, False):
                self.here[event.stage] = seconds
            else:
                self._there.append((event.stage, seconds))
        elif isinstance(event, Transferred):
            sizes = event.result_bytes
            results = tuple((name, s, sizes.get(name, 0)) for name, s in self._there)
            self.hops.append(HopSeen(results, event))
            self._there = []


def learn_device(learned: Learned, seen: RunSeen, costs: Mapping[str, Cost], now_s: float) -> None:
    """Take in what components here took, per unit of their work."""
    for name, seconds in seen.here.items():
        learned.note(f"here.{name}", seconds / costs[name].units, now_s)


def learn_link(learned: Learned, seen: RunSeen, costs: Mapping[str, Cost], now_s: float) -> None:
    """Take in what hops on a server took: work, bytes, and rates as far as bytes tell of them.

    Args:
        learned: of that server over that network.
        seen: the request.
        costs: of its components.
        now_s: Unix time.
    """
    for hop in seen.hops:
        for name, seconds, size in hop.results:
            learned.note(f"there.{name}", seconds / costs[name].units, now_s)
            if costs[name].pixels:
                way = of_format(f"down.{name}", hop.traffic.result_formats.get(name, ""))
                learned.note(way, size / costs[name].result_bytes, now_s)
        learn_packing(learned, hop, costs, now_s)
        if not seen.broken:
            learn_rates(learned, hop, now_s)


def learn_packing(learned: Learned, hop: HopSeen, costs: Mapping[str, Cost], now_s: float) -> None:
    """What encoding and decoding took; of the earlier results it was hidden behind work."""
    last = hop.results[-1][0] if hop.results else ""
    raw = costs[last].result_bytes if last else 0
    spent = sum(hop.traffic.packing.get(name, 0.0) for name in ("server pack", "unpack"))
    if raw:
        name = of_format("pack", hop.traffic.result_formats.get(last, ""))
        learned.note(name, spent / raw, now_s)
        packed = hop.traffic.packing.get("server pack", 0.0) / raw
        learned.note("encode" + name.removeprefix("pack"), packed, now_s)


def of_format(name: str, format_: str) -> str:
    """The name of a number that formats with loss each have one of."""
    return f"{name}.{format_}" if format_ in LOSSY_FORMATS else name


def learn_rates(learned: Learned, hop: HopSeen, now_s: float) -> None:
    """What the waits of a hop say of the line, each way."""
    traffic, rtt_s = hop.traffic, learned.value("rtt")
    if traffic.call_bytes >= ENOUGH_BYTES and rtt_s is not None:
        wait_s = max(traffic.first_s - rtt_s, LEAST_WAIT_S)
        learned.note("up", traffic.call_bytes / wait_s, now_s)
    results = [(seconds, size) for _, seconds, size in hop.results]
    if sum(size for _, size in results) >= ENOUGH_BYTES:
        rate = rate_of(results, max(traffic.seconds.get("download", 0.0), LEAST_WAIT_S))
        learned.note("down", rate, now_s)


def tail_s(results: Sequence[tuple[float, int]], bytes_s: float) -> float:
    """From the end of the last component's work until its result is through the line.

    Args:
        results: seconds of work and bytes of the result, component by component.
        bytes_s: of the line.
    """
    made = free = 0.0
    for seconds, size in results:
        made += seconds
        free = max(made, free) + size / bytes_s
    return free - made


def rate_of(results: Sequence[tuple[float, int]], waited_s: float) -> float:
    """The rate at which the tail of a hop is as long as it was waited for, bytes per second.

    Args:
        results: see `tail_s`.
        waited_s: for the line, after all work was done.
    """
    low, high = math.log(LEAST_RATE), math.log(MOST_RATE)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        # A faster line has a shorter tail.
        if tail_s(results, math.exp(middle)) > waited_s:
            low = middle
        else:
            high = middle
    return math.exp(high)
