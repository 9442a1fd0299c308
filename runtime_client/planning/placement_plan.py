"""The plan of one request: what was known, what every placement would take, and which one is taken.

A value that explains itself as a JSON object. Knows facts and predictions; no client.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from runtime_client.config import LOSSY_FORMATS, PictureFormat
from runtime_client.planning.choice import ChosenRun, WishOrder, allows, choose, loss_of
from runtime_client.planning.cost_model import (
    LOSSLESS,
    ComponentFacts,
    LinkFacts,
    Places,
    PredictedRun,
    placements,
    predict,
)
from runtime_client.planning.facts import Sources
from runtime_client.wish import Wish

MOST_SHOWN = 8
"""Placements in a plan's object: of many the rest are slower variants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WhatIf:
    """Facts in the place of those that are known; None keeps what is known."""

    rtt_s: float | None = None
    up_bytes_s: float | None = None
    down_bytes_s: float | None = None
    queue_s: float | None = None
    """Before the first component on the server, whichever that is."""

    def applied(
        self, components: Sequence[ComponentFacts], link: LinkFacts
    ) -> tuple[list[ComponentFacts], LinkFacts]:
        """The same facts with these in place."""
        given = {
            name: value
            for name in ("rtt_s", "up_bytes_s", "down_bytes_s")
            if (value := getattr(self, name)) is not None
        }
        changed = list(components)
        if self.queue_s is not None:
            # All of it before every component would count a row of them as often.
            changed = [replace(c, queue_s=self.queue_s / len(components)) for c in components]
        return changed, replace(link, **given)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyFacts:
    """What work here costs beside its time."""

    cpu_per_s: float
    """Processor seconds of a second of work here."""
    joules_per_s: float | None
    """Joules of this machine of a second of work here; None where it does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacementPlan:
    """A request's plan."""

    wish: Wish
    components: tuple[ComponentFacts, ...]
    link: LinkFacts
    sources: Sources
    energy: EnergyFacts
    runs: tuple[PredictedRun, ...]
    """Every placement that can be, the best for the wish first."""
    choice: ChosenRun
    server: str
    network: str

    @property
    def places(self) -> Places:
        """The placement that is taken: by component of the request, whether it runs here."""
        return self.choice.run.places

    @property
    def format(self) -> str:
        """The format with loss that is taken; `LOSSLESS` for none."""
        return self.choice.run.format

    @property
    def picture_format(self) -> PictureFormat | None:
        """The same as a configuration names it; None where the configuration's own is taken."""
        return next((name for name in LOSSY_FORMATS if name == self.format), None)

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "wish": asdict(self.wish),
            "objective": self.wish.objective,
            "met": self.choice.met,
            "format": format_name(self.format),
            "server": self.server,
            "network": self.network,
            "link": {
                "rtt_ms": in_ms(self.link.rtt_s),
                "up_bit_s": round(8 * self.link.up_bytes_s),
                "down_bit_s": round(8 * self.link.down_bytes_s),
                "from": dict(self.sources.link),
            },
            "components": [self._component(spec) for spec in self.components],
            "placements": [self._run(run) for run in self.runs[:MOST_SHOWN]],
            "placements_possible": len({run.places for run in self.runs}),
            "runs_possible": len(self.runs),
        }

    def _component(self, spec: ComponentFacts) -> dict[str, Any]:
        """One component's facts."""
        return {
            "name": spec.name,
            "here_ms": None if spec.here_s is None else in_ms(spec.here_s),
            "here_from": self.sources.here.get(spec.name, ""),
            "load_ms": in_ms(spec.load_s),
            "there_ms": None if spec.there_s is None else in_ms(spec.there_s),
            "there_from": self.sources.there.get(spec.name, ""),
            "queue_ms": in_ms(spec.queue_s),
            "bytes_up": spec.up_bytes,
            "bytes_down": spec.down_bytes,
        }

    def _run(self, run: PredictedRun) -> dict[str, Any]:
        """One placement's prediction."""
        named = list(zip((c.name for c in self.components), run.places, strict=True))
        joules = self.energy.joules_per_s
        return {
            "here": [name for name, here in named if here],
            "there": [name for name, here in named if not here],
            "ms": in_ms(run.seconds),
            "here_ms": in_ms(run.here_s),
            "there_ms": in_ms(run.there_s),
            "queue_ms": in_ms(run.queue_s),
            "link_ms": in_ms(run.wait_s),
            "bytes_up": run.bytes_up,
            "bytes_down": run.bytes_down,
            "format": format_name(run.format),
            "here_cpu_s": round(run.here_s * self.energy.cpu_per_s, 4),
            "here_joules": None if joules is None else round(run.here_s * joules, 3),
            "chosen": run is self.choice.run,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanInputs:
    """What a plan is made of."""

    components: Sequence[ComponentFacts]
    link: LinkFacts
    sources: Sources
    energy: EnergyFacts
    server: str
    network: str
    cuts_only: bool
    ends_there: bool = False
    """Whether the last component must run on the server, which goes on without this client."""
    lossy: tuple[str, ...] = ()
    """Formats with loss that may be taken, the one with the least loss first."""
    given: Places | None = None
    """The placement, where that is not to be chosen."""


def plan_of(inputs: PlanInputs, wish: Wish) -> PlacementPlan:
    """The plan that facts come to.

    Raises:
        InvalidRequest: no placement can be, or keeps the words here.
    """
    possible = [
        predict(inputs.components, inputs.link, places, format_)
        for places in possible_places(inputs, wish)
        for format_ in (LOSSLESS, *(() if places[-1] else inputs.lossy))
    ]
    choice = choose(possible, wish, inputs.lossy)
    order = WishOrder(wish.objective)
    # The one that is taken first: with a limit of time it need not be the first in order.
    others = sorted(
        (run for run in possible if run is not choice.run),
        key=lambda run: (loss_of(run, inputs.lossy), order(run)),
    )
    return PlacementPlan(
        wish=wish,
        components=tuple(inputs.components),
        link=inputs.link,
        sources=inputs.sources,
        energy=inputs.energy,
        runs=(choice.run, *others),
        choice=choice,
        server=inputs.server,
        network=inputs.network,
    )


def possible_places(inputs: PlanInputs, wish: Wish) -> list[Places]:
    """The placements that there are to choose from; the given one alone, where there is one."""
    if inputs.given is not None:
        return [inputs.given]
    return [
        places
        for places in placements(inputs.components, cuts_only=inputs.cuts_only)
        if allows(wish, inputs.components, places) and not (inputs.ends_there and places[-1])
    ]


def format_name(format_: str) -> str:
    """A format as a plan's object has it."""
    return format_ or "lossless"


def in_ms(seconds: float) -> float:
    """Milliseconds, to a hundredth."""
    return round(1000 * seconds, 2)


def sides_named(plan: Mapping[str, Any]) -> str:
    """The taken placement of a plan's object, for people: `text_encoder,base here, sr256 there`."""
    taken = next(run for run in plan["placements"] if run["chosen"])
    sides = [(taken["here"], "here"), (taken["there"], "there")]
    return "; ".join(f"{', '.join(names)} {side}" for names, side in sides if names)
