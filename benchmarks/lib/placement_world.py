"""A device, a link and a server in virtual time: what a request would really take, event by event.

Written from what client and server do, apart from the cost model that it judges: bytes pass
`bench.link.direction`, the arithmetic of the shaped link. Knows no plan.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from bench.link.direction import LinkDirection
from cascade.boundary import Context, Image, value_of
from cascade.cost import Cost
from cascade.events import StageFinished, Transferred
from cascade.family import ComponentSpec
from cascade.request import Handoff
from runtime_client.planning.observed import RunSeen

CALL_BYTES = 200
PROMPT_BYTES = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The truth."""

    rtt_s: float
    up_bit_s: float
    down_bit_s: float
    here_s: Mapping[str, float]
    """Seconds of a unit by component."""
    there_s: Mapping[str, float]
    picture_share: float = 0.4
    """Bytes of an encoded picture, of its raw bytes."""
    context_bytes: int = 8000
    pack_s_per_byte: float = 1e-8
    call_s: float = 0.002
    """Of a call at the server, before anything is done for it."""
    noise: float = 0.0
    """Standard deviation of a duration, as a share of it."""


@dataclass(slots=True)
class Journey:
    """One request in virtual time."""

    world: World
    chance: random.Random
    up: LinkDirection = field(init=False)
    down: LinkDirection = field(init=False)
    seen: RunSeen = field(default_factory=RunSeen)
    now: float = 0.0
    context_at: float | None = None
    """When the context is on the server, if it was sent ahead."""
    has_context: bool = False
    here: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Both directions of the line are at rest."""
        world = self.world
        self.up = LinkDirection(bit_s=world.up_bit_s, delay_s=world.rtt_s / 2)
        self.down = LinkDirection(bit_s=world.down_bit_s, delay_s=world.rtt_s / 2)

    def noisy(self, seconds: float) -> float:
        """A duration as it turns out."""
        return seconds * max(0.5, 1 + self.chance.gauss(0, self.world.noise))


def travel(
    world: World,
    components: Sequence[tuple[ComponentSpec, Cost]],
    places: Sequence[bool],
    chance: random.Random,
) -> tuple[float, RunSeen]:
    """Seconds of one request, and its events as a client sees them.

    Args:
        world: the truth.
        components: of the request, in order.
        places: whether each runs here.
        chance: of the noise.
    """
    journey = Journey(world, chance)
    journey.here = {s.name: here for (s, _), here in zip(components, places, strict=True)}
    at = 0
    for here, group in groupby(places):
        hop = range(at, at + len(list(group)))
        at = hop.stop
        (walk if here else call)(journey, components, hop)
    return journey.now, journey.seen


def walk(journey: Journey, components: Sequence[tuple[ComponentSpec, Cost]], hop: range) -> None:
    """Components on the device; a context that is known goes up meanwhile."""
    world = journey.world
    for at in hop:
        spec, cost = components[at]
        if journey.has_context and journey.context_at is None:
            stored = journey.up.leaves_at(journey.now, world.context_bytes)
            journey.context_at = stored + world.rtt_s / 2
        spent = journey.noisy(world.here_s[spec.name] * cost.units)
        journey.now += spent
        journey.seen.add(StageFinished(spec.name, Handoff(), {spec.name: spent}), journey.here)
        if isinstance(spec.makes, Context):
            journey.has_context, journey.context_at = True, None


def call(journey: Journey, components: Sequence[tuple[ComponentSpec, Cost]], hop: range) -> None:
    """Components on the server: one call, a result for each, the end."""
    world, first = journey.world, components[hop.start][0]
    message, picture = PROMPT_BYTES + CALL_BYTES if hop.start == 0 else 0, 0
    if hop.start and value_of(Image, first.starts_from) is not None:
        picture = size_of(world, *components[hop.start - 1])
    if hop.start and value_of(Context, first.starts_from) is not None:
        message += 0 if journey.context_at is not None else world.context_bytes
    if hop.start and journey.context_at is not None:
        journey.now = max(journey.now, journey.context_at)
    message += picture
    sent = journey.now
    server = journey.up.leaves_at(sent, message) + world.call_s
    accepted = journey.down.leaves_at(server, 1)
    claimed, sizes, arrived, packed = 0.0, {}, accepted, 0.0
    for at in hop:
        spec, cost = components[at]
        spent = journey.noisy(world.there_s[spec.name] * cost.units)
        server += spent
        claimed += spent
        size = size_of(world, spec, cost)
        packed = world.pack_s_per_byte * cost.result_bytes * bool(cost.pixels)
        arrived = journey.down.leaves_at(server + packed, size)
        if cost.pixels:
            sizes[spec.name] = size
        journey.seen.add(StageFinished(spec.name, Handoff(), {spec.name: spent}), journey.here)
        if isinstance(spec.makes, Context):
            journey.has_context, journey.context_at = True, None
    first_s, waited = accepted - sent, arrived - sent
    wire = max(0.0, waited - claimed - packed)
    journey.now = arrived
    journey.seen.add(
        Transferred(
            bytes_up=message,
            bytes_down=sum(sizes.values()),
            seconds={"download": wire - min(wire, first_s)},
            packing={"server pack": packed},
            result_bytes=sizes,
            call_bytes=message,
            picture_bytes=picture,
            first_s=first_s,
        ),
        journey.here,
    )


def size_of(world: World, spec: ComponentSpec, cost: Cost) -> int:
    """Bytes of a component's result on the way."""
    if isinstance(spec.makes, Context):
        return world.context_bytes
    return CALL_BYTES + round(world.picture_share * cost.result_bytes)


def without_noise(world: World) -> World:
    """The same, every duration as it is on average."""
    return replace(world, noise=0.0)
