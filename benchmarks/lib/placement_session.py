"""A session of requests in a virtual world, planned by what the product's planner knows by then.

The facts, the model, the choice and the learning are the product's; only time and bytes are made
up. What `Planner` does with threads and files is left out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from bench.link.direction import LinkDirection
from benchmarks.lib.placement_world import World, travel, without_noise
from cascade.cost import Cost
from cascade.families import cost_of, resolved
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest
from runtime_client.planning.cost_model import Places, placements
from runtime_client.planning.facts import (
    DeviceView,
    HostedFacts,
    KnownFacts,
    ServerView,
    component_facts,
    link_facts,
)
from runtime_client.planning.learned import Learned
from runtime_client.planning.link_meter import LinkMeter
from runtime_client.planning.observed import learn_device, learn_link
from runtime_client.planning.placement_plan import EnergyFacts, PlacementPlan, PlanInputs, plan_of
from runtime_client.remote.server_link import ServerLink
from runtime_client.wish import Wish
from wire.server_info import InfoCall, ServerInfo

PROMPT = "a red apple, noto style"
BETWEEN_S = 1.0
"""From the end of a request to the next."""


@dataclass(slots=True)
class VirtualLink:
    """Answers `measured_info` as a server over the world's link would."""

    world: World

    def measured_info(self, call: InfoCall, *, timeout_s: float) -> tuple[ServerInfo, float]:
        """An answer, and how long it would have taken."""
        del timeout_s
        world = self.world
        up = LinkDirection(bit_s=world.up_bit_s, delay_s=world.rtt_s / 2)
        down = LinkDirection(bit_s=world.down_bit_s, delay_s=world.rtt_s / 2)
        asked = up.leaves_at(0.0, len(call.padding) + 10) + world.call_s / 4
        seconds = down.leaves_at(asked, call.reply_padding_bytes + 600)
        padding = bytes(call.reply_padding_bytes)
        info = ServerInfo(software_version="", bundle_id="", bundle_name="", padding=padding)
        return info, seconds


@dataclass(slots=True)
class Session:
    """One client that goes on learning."""

    components: Sequence[ComponentSpec]
    world: World
    cuts_only: bool = True
    wish: Wish = field(default_factory=Wish)
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    device: Learned = field(default_factory=lambda: Learned(owner="device"))
    link: Learned = field(default_factory=lambda: Learned(owner="link"))
    now_s: float = 1e9
    _virtual: VirtualLink = field(init=False)
    _meter: LinkMeter = field(init=False)
    request: GenerateRequest = field(init=False)

    def __post_init__(self) -> None:
        """Measure the link as at a first contact, and what each component takes here."""
        self._virtual = VirtualLink(self.world)
        link = cast(ServerLink, self._virtual)
        self._meter = LinkMeter(link, self.link, lambda: self.now_s)
        self._meter.measure(used_link=False, sparing=False)
        self.request = resolved(self.components, GenerateRequest(prompt=PROMPT))
        for spec in self.components:
            self.device.note(f"here.{spec.name}", self.world.here_s[spec.name], self.now_s)

    def cost(self, name: str) -> Cost:
        """The work of a component for one request."""
        spec = next(spec for spec in self.components if spec.name == name)
        return cost_of(spec, self.request)

    def change(self, world: World) -> None:
        """Another world from the next request on."""
        self.world = self._virtual.world = world

    def plan(self) -> PlacementPlan:
        """The plan of the next request."""
        precisions = {spec.name: Precision.FP32 for spec in self.components}
        hosted = {
            spec.name: HostedFacts(
                precision=Precision.FP32,
                step_s=self.world.there_s[spec.name],
                queued=0,
                units=1,
            )
            for spec in self.components
        }
        known = KnownFacts(
            device=DeviceView(precisions=precisions, loaded=frozenset(precisions)),
            server=ServerView(hosted=hosted),
            of_device=self.device,
            of_link=self.link,
            now_s=self.now_s,
        )
        facts, sources = component_facts(self.components, 0, self.request, known)
        inputs = PlanInputs(
            components=facts,
            link=link_facts(known)[0],
            sources=sources,
            energy=EnergyFacts(cpu_per_s=1.0, joules_per_s=None),
            server="virtual:1",
            network="virtual",
            cuts_only=self.cuts_only,
        )
        return plan_of(inputs, self.wish)

    def step(self) -> tuple[Places, float]:
        """One request: the placement that was taken, and its seconds."""
        plan = self.plan()
        pairs = [(spec, cost_of(spec, self.request)) for spec in self.components]
        seconds, seen = travel(self.world, pairs, plan.places, self.chance)
        costs = {spec.name: cost for spec, cost in pairs}
        self.now_s += seconds
        learn_device(self.device, seen, costs, self.now_s)
        learn_link(self.link, seen, costs, self.now_s)
        for hop in seen.hops:
            self._learn_pictures(plan.places, hop.traffic.picture_bytes)
        self._meter.measure(used_link=bool(seen.hops), sparing=False)
        self.now_s += BETWEEN_S
        return plan.places, seconds

    def _learn_pictures(self, places: Places, size: int) -> None:
        """As the planner does for cuts."""
        cut = sum(places)
        if size and 0 < cut < len(places):
            spec = self.components[cut - 1]
            raw = cost_of(spec, self.request).result_bytes
            self.device.note(f"up.{spec.name}", size / raw, self.now_s)

    def true_seconds(self, places: Places) -> float:
        """What a placement takes in this world on average."""
        pairs = [(spec, cost_of(spec, self.request)) for spec in self.components]
        return travel(without_noise(self.world), pairs, places, random.Random(0))[0]

    def best(self) -> tuple[Places, float]:
        """The best fixed placement of this world, and its seconds on average."""
        ways = placements(self.plan().components, cuts_only=self.cuts_only)
        return min(((p, self.true_seconds(p)) for p in ways), key=lambda pair: pair[1])


def cut_name(places: Places) -> str:
    """A placement in short."""
    cut = sum(places)
    return f"cut {cut}" if places == tuple(at < cut for at in range(len(places))) else str(places)


def faster_server(world: World, times: float) -> World:
    """A world whose server is so many times as fast as its device."""
    return replace(world, there_s={name: s / times for name, s in world.here_s.items()})
