"""The planner of a client: plans each request by what earlier ones have shown, and learns on.

Where the placement is given, only the format of pictures is chosen.

Between requests it opens what later ones would run here, and measures the link with bytes of its
own. No picture is made otherwise than planned. Knows requests and servers; how long things take,
`facts` and `cost_model` know.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cascade.assignments import AUTO
from cascade.bundle.bundle import Bundle
from cascade.errors import CascadeError
from cascade.events import Event
from cascade.families import cost_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.system.cores import usable_cores
from cascade.system.energy import Counters, joules_between, package_joules
from cascade.system.user_cache import user_cache_folder
from runtime_client.config import LOSSY_FORMATS, ClientConfig
from runtime_client.deadline import Deadline
from runtime_client.placement import HERE, THERE, Placement
from runtime_client.planning.capacity import CapacityPlan
from runtime_client.planning.cost_model import Places
from runtime_client.planning.device import device_view, unit_seconds
from runtime_client.planning.facts import (
    DeviceView,
    HostedFacts,
    KnownFacts,
    ServerView,
    component_facts,
    link_facts,
)
from runtime_client.planning.learned import Learned, read_learned, write_learned
from runtime_client.planning.link_meter import LinkMeter
from runtime_client.planning.network import LOCAL, network_of
from runtime_client.planning.observed import RunSeen, learn_device, learn_link
from runtime_client.planning.placement_plan import (
    EnergyFacts,
    PlacementPlan,
    PlanInputs,
    WhatIf,
    plan_of,
)
from runtime_client.planning.replica import PlannedWork, capacity_there
from runtime_client.request_checks import CheckedRequest
from runtime_client.resources import ClientResources
from wire.server_info import ServerInfo

FOLDER = "placement"
"""Below the user's cache folder."""


@dataclass(slots=True)
class Watched:
    """A planned request under way."""

    plan: PlacementPlan
    checked: CheckedRequest
    seen: RunSeen = field(default_factory=RunSeen)
    cpu_s: float = field(default_factory=time.process_time)
    joules: Counters = field(default_factory=package_joules)


class Planner:
    """Plans for one client and one server; used from any thread."""

    def __init__(
        self,
        bundle: Bundle,
        config: ClientConfig,
        resources: ClientResources,
        precisions: Mapping[str, Precision],
        *,
        given: Placement | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read or asked yet.

        Args:
            bundle: an opened bundle.
            config: of the client; names a server.
            resources: of the client: the connection, and what is open here.
            precisions: that were asked for, by component.
            given: where components run; None where that is to be chosen.
            clock: Unix time.
        """
        self._given = given
        self._bundle = bundle
        self._config = config
        self._resources = resources
        self._asked = precisions
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, "cascade-plan")
        self._folder = learned_folder()
        # Guards the first contact: two requests at once must not measure one link.
        self._lock = threading.Lock()
        self._network = ""
        self._device, self._link = Learned(), Learned()
        self._device_view = DeviceView(precisions={})
        self._server: ServerView | None = None
        self._meter: LinkMeter | None = None
        self._closed = False

    def plan(
        self,
        checked: CheckedRequest,
        deadline: Deadline,
        *,
        ends_there: bool = False,
        what_if: WhatIf | None = None,
    ) -> PlacementPlan:
        """Where the components of a request are to run.

        Waits for the first answer of a server; the first time on a network, its link is measured
        too.

        Args:
            checked: the request.
            deadline: when it must be over.
            ends_there: whether the server must make the end of it.
            what_if: facts in the place of those that are known.

        Raises:
            InvalidRequest: no placement fits.
            CascadeError: the server does not answer, or does not fit.
        """
        server = self._contacted(deadline)
        inputs = self._inputs(checked, server, ends_there=ends_there)
        if what_if is not None:
            components, link = what_if.applied(inputs.components, inputs.link)
            inputs = replace(inputs, components=components, link=link)
        return plan_of(inputs, self._config.wish)

    def capacity(self, checked: CheckedRequest, deadline: Deadline, cut: int) -> CapacityPlan:
        """What servers like this one can do for requests like this one.

        Args:
            checked: the request.
            deadline: when the server must have answered.
            cut: components before this position run on devices.

        Raises:
            InvalidRequest: the server does not host the rest, or has not measured it.
            CascadeError: the server does not answer, or does not fit.
        """
        server = self._contacted(deadline)
        work = PlannedWork(
            bundle=self._bundle,
            request=checked.request,
            positions=checked.positions,
            cut=cut,
            known=self._known(server),
        )
        info = self._resources.connection().link.peer(deadline).info
        return capacity_there(work, self._config.server or "", info)

    def placement(self, plan: PlacementPlan, checked: CheckedRequest) -> Placement:
        """A plan as a place for every component of the bundle.

        What the request does not run stands where its first component does, or here if words must
        not leave.
        """
        here = plan.places[0] or self._config.wish.words_stay_here
        places = [HERE if here else THERE] * len(self._bundle.manifest.components)
        for at, is_here in zip(checked.positions, plan.places, strict=True):
            places[at] = HERE if is_here else THERE
        placement = Placement(tuple(places))
        return replace(placement, is_cut=placement.cut is not None)

    def begin(self, plan: PlacementPlan, checked: CheckedRequest) -> Watched:
        """A request begins as planned; meanwhile, what later ones need is opened here."""
        if self._config.works_ahead and self._given is None and not all(plan.places):
            self._later(lambda: self._open_ahead(checked))
        return Watched(plan, checked)

    def note(self, watched: Watched, event: Event) -> None:
        """Something happened to a request."""
        names = (spec.name for spec in self._specs(watched.checked))
        watched.seen.add(event, dict(zip(names, watched.plan.places, strict=True)))

    def finish(self, watched: Watched) -> None:
        """A request is over and went as planned: learn from it, then measure what it did not."""
        now = self._clock()
        request = watched.checked.request
        costs = {spec.name: cost_of(spec, request) for spec in self._specs(watched.checked)}
        learn_device(self._device, watched.seen, costs, now)
        learn_link(self._link, watched.seen, costs, now)
        self._learn_pictures(watched, now)
        self._learn_energy(watched, now)
        for at, seconds in self._resources.load_s.items():
            self._device.note(f"load.{self._bundle.manifest.components[at].name}", seconds, now)
        self._keep()
        if self._config.works_ahead:
            self._later(lambda: self._measure(used_link=bool(watched.seen.hops)))

    def wait(self) -> None:
        """Until everything that was begun between requests is done."""
        # One thread takes it in order.
        self._executor.submit(lambda: None).result()

    def stop(self) -> None:
        """Begin nothing more."""
        self._closed = True

    def close(self) -> None:
        """End; what is under way ends with its call or its component."""
        self.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _specs(self, checked: CheckedRequest) -> list[ComponentSpec]:
        """The components of a request."""
        return [self._bundle.manifest.components[at] for at in checked.positions]

    def _contacted(self, deadline: Deadline) -> ServerView:
        """The server; the first time, what is known of it is read and it is waited for."""
        with self._lock:
            if self._server is not None:
                return self._server
            address = self._config.server or ""
            self._network = network_of(address)
            bundle_id = self._bundle.bundle_id
            options = self._config.engine_options
            owner = f"{bundle_id} at {address} over {self._network}"
            self._link = read_learned(self._folder, owner)
            self._device = read_learned(self._folder, f"{bundle_id} here by {options}")
            link = self._resources.connection().link
            server = self._view_of(link.peer(deadline).info)
            self._meter = LinkMeter(link, self._link, self._clock)
            self._device_view = device_view(self._bundle, options, self._resources.load_s)
            self._server = server
        # What is wanted in a certain time loses pixels by this number: one of another hour will
        # not do.
        is_old = self._config.chooses_format and self._link.is_stale("down", self._clock())
        if self._link.value("rtt") is None or is_old:
            self._measure(used_link=False)
        return self._server

    def _view_of(self, info: ServerInfo) -> ServerView:
        """What the server told of itself."""
        return ServerView(
            hosted={
                c.name: HostedFacts(
                    precision=c.precision,
                    step_s=c.milliseconds_per_step / 1000,
                    queued=c.queued,
                    units=max(1, c.default_steps),
                )
                for c in info.components
            },
            is_local=self._network == LOCAL and self._config.picture_format in ("auto", "raw"),
            formats=info.image_formats,
        )

    def _inputs(
        self,
        checked: CheckedRequest,
        server: ServerView,
        *,
        ends_there: bool = False,
        all_open: bool = False,
    ) -> PlanInputs:
        """What a request is planned by.

        Args:
            checked: the request.
            server: as it was last heard of.
            ends_there: see `plan`.
            all_open: whether every component counts as open here.
        """
        known = self._known(server, all_open=all_open)
        facts, sources = component_facts(
            self._specs(checked), checked.first, checked.request, known
        )
        return PlanInputs(
            components=facts,
            link=link_facts(known)[0],
            sources=sources,
            energy=EnergyFacts(
                cpu_per_s=self._device.value("cpu_per_s") or float(usable_cores()),
                joules_per_s=self._device.value("joules_per_s"),
            ),
            server=self._config.server or "",
            network=self._network,
            cuts_only=self._config.cut == AUTO,
            ends_there=ends_there,
            lossy=() if ends_there else self._lossy(server),
            given=self._given_places(checked),
        )

    def _lossy(self, server: ServerView) -> tuple[str, ...]:
        """The formats with loss that may be taken; of a detached request none is, for it waits."""
        if not self._config.chooses_format:
            return ()
        return tuple(name for name in LOSSY_FORMATS if name in server.formats)

    def _given_places(self, checked: CheckedRequest) -> Places | None:
        """Whether each component of a request runs here, where that is given."""
        if self._given is None:
            return None
        return tuple(self._given.places[at] == HERE for at in checked.positions)

    def _known(self, server: ServerView, *, all_open: bool = False) -> KnownFacts:
        """All that is known now; see `_inputs`."""
        components = self._bundle.manifest.components
        opened = range(len(components)) if all_open else list(self._resources.load_s)
        return KnownFacts(
            device=replace(
                self._device_view, loaded=frozenset(components[at].name for at in opened)
            ),
            server=server,
            of_device=self._device,
            of_link=self._link,
            now_s=self._clock(),
            asked=self._asked,
            is_placed=self._given is not None,
        )

    def _learn_pictures(self, watched: Watched, now_s: float) -> None:
        """How large pictures were on the way up, of their raw bytes."""
        specs, places = self._specs(watched.checked), watched.plan.places
        ups = [at for at in range(1, len(places)) if places[at - 1] and not places[at]]
        sent = [hop.traffic.picture_bytes for hop in watched.seen.hops]
        if places[0] and len(ups) == len(sent):
            for at, size in zip(ups, sent, strict=True):
                spec = specs[at - 1]
                raw = cost_of(spec, watched.checked.request).result_bytes
                self._device.note(f"up.{spec.name}", size / raw, now_s)

    def _learn_energy(self, watched: Watched, now_s: float) -> None:
        """What a second of work here takes, from requests that ran here alone."""
        spent = sum(watched.seen.here.values())
        if not all(watched.plan.places) or not spent:
            return
        self._device.note("cpu_per_s", (time.process_time() - watched.cpu_s) / spent, now_s)
        joules = joules_between(watched.joules, package_joules())
        if joules:
            self._device.note("joules_per_s", joules / spent, now_s)

    def _keep(self) -> None:
        """Write what was learned."""
        for learned in (self._device, self._link):
            # A copy: other requests go on learning.
            write_learned(self._folder, replace(learned, numbers=dict(learned.numbers)))

    def _later(self, work: Callable[[], None]) -> None:
        """Do something when there is time; nothing once this is stopped."""
        # A client that is closed meanwhile refuses new work.
        with suppress(RuntimeError):
            self._executor.submit(self._quietly, work)

    def _quietly(self, work: Callable[[], None]) -> None:
        """Work that no request waits for: what goes wrong in it, a request would meet and say."""
        if not self._closed:
            with suppress(CascadeError):
                work()

    def _measure(self, *, used_link: bool) -> None:
        """Measure the link, and hear what the server has to do now."""
        if self._meter is None:
            return
        sparing = self._config.wish.objective == "bytes" and not self._config.chooses_format
        info = self._meter.measure(used_link=used_link, sparing=sparing)
        if info is not None:
            self._server = self._view_of(info)
            self._keep()

    def _open_ahead(self, checked: CheckedRequest) -> None:
        """Open here what would run here if it were open, and time what was not timed here lately.

        A number that is too high is met by no request, so nothing else would ever correct it.
        """
        server = self._server
        if server is None:
            return
        wanted = plan_of(self._inputs(checked, server, all_open=True), self._config.wish)
        patience = Deadline.after(self._config.timeout_s)
        for at, here in zip(checked.positions, wanted.places, strict=True):
            spec = self._bundle.manifest.components[at]
            can = spec.name in self._device_view.precisions
            is_unknown = wanted.sources.here[spec.name] not in ("measured", "tuned")
            is_unknown |= wanted.sources.here[spec.name] == "measured" and self._device.is_stale(
                f"here.{spec.name}", self._clock()
            )
            is_closed = at not in self._resources.load_s
            if self._closed or not can or not (is_unknown or (here and is_closed)):
                continue
            (stage,) = self._resources.local_stages([at], patience)
            if is_unknown:
                self._device.note(f"here.{spec.name}", unit_seconds(stage, spec), self._clock())


def learned_folder() -> Path | None:
    """Where what was learned is kept; None for a user without a home."""
    cache = user_cache_folder()
    return None if cache is None else cache / FOLDER
