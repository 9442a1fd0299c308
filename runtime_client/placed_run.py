"""One request, hop by hop: its components as stages where they are placed, and what a loss changes.

Makes the list that `cascade.generate` runs. Where a server is lost and the configuration says so,
what it was to run runs here, and the other hops go on as placed. Knows hops; not how they compute.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from cascade.boundary import Context, Prompt, value_of
from cascade.bundle.bundle import Bundle
from cascade.errors import CascadeError, DeadlineExceeded, InvalidRequest
from cascade.events import Event, FellBack, StageFinished
from cascade.generate import generate
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from runtime_client.config import ClientConfig
from runtime_client.context_memory import RememberedStage
from runtime_client.deadline import Deadline
from runtime_client.local.local_times import LocalTimes, before_fallback
from runtime_client.placement import THERE, Hop, Placement
from runtime_client.remote.request_identity import DisconnectPolicy, RequestIdentity
from runtime_client.remote.retry import RETRIED
from runtime_client.request_checks import CheckedRequest
from runtime_client.resources import ClientResources
from runtime_client.result import HERE, PRIVATE, SERVER, Collected, HopAccount

if TYPE_CHECKING:
    from runtime_client.planning.placement_plan import PlacementPlan
    from runtime_client.remote.named_hop import NamedHop
    from runtime_client.remote.remote_stage import RemoteStage

FALL_BACK_ON: tuple[type[CascadeError], ...] = (*RETRIED, DeadlineExceeded)
"""Of a server; what it was to run may then run here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientParts:
    """What all requests of a client have in common."""

    bundle: Bundle
    config: ClientConfig
    placement: Placement
    resources: ClientResources
    precisions: dict[str, Precision]
    """What components must compute in, by name."""
    local_times: LocalTimes


class PlacedRun:
    """One request of a client."""

    def __init__(
        self,
        parts: ClientParts,
        checked: CheckedRequest,
        collected: Collected,
        deadline: Deadline,
        plan: "PlacementPlan | None" = None,
    ) -> None:
        """Nothing has begun.

        Args:
            parts: of the client.
            checked: the request.
            collected: has its id; seconds of loading are added to it, and where components run.
            deadline: when it must be over.
            plan: what the parts' placement was chosen by, where it was.

        Raises:
            ManifestError: a file of a component that is to run on this machine is not there.
        """
        self._parts = parts
        self._checked = checked
        self.plan = plan
        """What the placement was chosen by; None where it was given."""
        self._collected = collected
        self._deadline = deadline
        self._placement = parts.placement
        self._done = checked.first
        """Position of the first component that is not finished."""
        self._remote: list[RemoteStage | NamedHop] = []
        self._start = checked.request.start
        self._words = None
        if checked.words is not None:
            self._words = self._encoding(checked.request.prompt, "words")
        """The run of the component that encodes the words beside a caller's own picture, if any."""
        self._negative = self._encoding(checked.request.negative, "negative")
        """The run that encodes what the picture is guided away from, if there is anything."""
        self._has_words = self._words is None and self._negative is None
        self.last = parts.placement.hops(checked.positions)[-1]
        """The hop that the request ends with."""
        parts.bundle.require(self._on_this_machine())
        self._check_kept()

    @property
    def is_in_last_hop(self) -> bool:
        """Whether nothing but the last hop is left."""
        return self._has_words and self._done >= self.last.positions.start

    @property
    def sides(self) -> dict[str, str]:
        """Where each component of the bundle runs, in the words of `Result.sides`."""
        components = self._parts.bundle.manifest.components
        sides = {spec.name: self._side(self._hop_at(at)) for at, spec in enumerate(components)}
        if self._words is not None:
            name = components[self._words.last.positions.start].name
            sides[name] = self._words.sides[name]
        return sides

    @property
    def accounts(self) -> tuple[HopAccount, ...]:
        """What each hop took; complete at the end."""
        components = self._parts.bundle.manifest.components
        words = [run.accounts for run in (self._words, self._negative) if run is not None]
        return sum(words, ()) + tuple(
            self._collected.account(
                tuple(components[at].name for at in hop.positions),
                self._side(hop),
                self._address(hop) if self._side(hop) == SERVER else "",
            )
            for hop in self._placement.hops(self._checked.positions)
        )

    def events(self) -> Generator[Event, None, None]:
        """Everything that happens; with `fallback` a lost server's components run here."""
        request, handoff = yield from self._beginning()
        while True:
            try:
                stages = self._stages(request, detach=False)
                with closing(self._noted(generate(stages, request, handoff))) as events:
                    for event in events:
                        if isinstance(event, StageFinished):
                            handoff = event.handoff
                        yield event
                return
            except FALL_BACK_ON as exc:
                lost = self._lost_hop()
                if lost is None:
                    raise
                reason = str(exc)
            self._placement = self._placement.without(lost.place, lost.positions.start)
            name = self._parts.bundle.manifest.components[lost.positions.start].name
            yield FellBack(name, reason)

    def detached(self) -> Generator[Event, None, None]:
        """Everything that happens, where the last hop goes on without this client."""
        request, handoff = yield from self._beginning()
        stages = self._stages(request, detach=True)
        yield from self._noted(generate(stages, request, handoff))

    def _beginning(self) -> Generator[Event, None, tuple[GenerateRequest, Handoff]]:
        """The request and its start, once the words beside it are encoded."""
        request, handoff = self._checked.request, self._start
        for event in self._encoded(self._words):
            handoff = with_words(handoff, event)
            yield event
        for event in self._encoded(self._negative):
            request = with_negative(request, event)
            yield event
        self._has_words = True
        return request, handoff

    def _encoding(self, prompt: str | None, name: str) -> "PlacedRun | None":
        """A run of the component that encodes words, for those beside the start of this one.

        Args:
            prompt: the words; no run without any.
            name: what they are to this run, for its request id.
        """
        checked, components = self._checked, self._parts.bundle.manifest.components
        if prompt is None:
            return None
        position = next(
            at for at, spec in enumerate(components) if value_of(Prompt, spec.starts_from)
        )
        alone = replace(checked.request, negative=None, kept=None).with_plans(checked.request.plans)
        only = replace(checked, request=alone, first=position, last=position, words=None)
        # An id of its own: under the request's the server knows the work on the picture.
        own = replace(self._collected, request_id=f"{self._collected.request_id}-{name}")
        run = PlacedRun(self._parts, only, own, self._deadline)
        run._start = Handoff(prompt=prompt)
        return run

    def _encoded(self, run: "PlacedRun | None") -> Generator[Event, None, None]:
        """The events of such a run; nothing where there are no such words."""
        if run is not None:
            yield from run.events()

    @property
    def checked(self) -> CheckedRequest:
        """What is asked for, with its place in the bundle."""
        return self._checked

    @property
    def placement(self) -> Placement:
        """Where components were to run."""
        return self._parts.placement

    @property
    def fell_back(self) -> bool:
        """Whether a server was lost, so that some ran elsewhere."""
        return self._placement != self._parts.placement

    @property
    def request(self) -> GenerateRequest:
        """What is asked for, with its options resolved."""
        return self._checked.request

    def check_goes_on(self) -> None:
        """Raise where the time is over, or a handshake failed: no work towards no server."""
        self._deadline.remaining_s()
        if self._parts.config.fallback == "error":
            for stage in self._remote:
                stage.raise_failure()
            for run in (self._words, self._negative):
                if run is not None:
                    run.check_goes_on()

    def terminate(self) -> None:
        """End what runs on servers, from another thread; the deadline's ending ends the rest."""
        for stage in list(self._remote):
            stage.terminate()
        for run in (self._words, self._negative):
            if run is not None:
                run.terminate()

    def _noted(self, events: Iterator[Event]) -> Generator[Event, None, None]:
        """The same events, what is finished noted: a fallback then runs only the rest."""
        manifest = self._parts.bundle.manifest
        with closing(cast(Generator[Event, None, None], events)):
            for event in events:
                if isinstance(event, StageFinished):
                    position = manifest.position(event.stage)
                    self._done = position + 1
                    if self._hop_at(position).is_here:
                        seconds = sum(event.seconds.values())
                        self._parts.local_times.note(event.stage, self._checked.request, seconds)
                yield event

    def _left(self) -> list[Hop]:
        """The hops that are not finished."""
        return self._placement.hops(range(self._done, self._checked.last + 1))

    def _hop_at(self, position: int) -> Hop:
        """The place of one component."""
        return self._placement.hops(range(position, position + 1))[0]

    def _check_kept(self) -> None:
        """Raise `InvalidRequest` where a kept picture is to be enlarged on this machine."""
        checked = self._checked
        if checked.request.kept is not None and self._hop_at(checked.first).is_here:
            name = self._parts.bundle.manifest.components[checked.first].name
            raise InvalidRequest(
                f"kept: {name} runs here, and only a server keeps pictures: place {name} on that "
                f"server (--server, and a --cut of at most {checked.first})",
                field="kept",
            )

    def _lost_hop(self) -> Hop | None:
        """The hop that runs here from now on; None where nothing may."""
        left = [hop for hop in self._left() if not hop.is_here]
        # A kept picture is nowhere but on the server that was lost.
        if self._checked.request.kept is not None and self._done == self._checked.first:
            return None
        if self._parts.config.fallback != "local" or not left or self._deadline.is_over:
            return None
        # The one that ran, or the next one that could not even be begun.
        return left[0]

    def _on_this_machine(self) -> list[int]:
        """Positions of the components whose files this machine needs for the request."""
        config = self._parts.config
        hops = self._placement.hops(self._checked.positions)
        all_here = config.fallback == "local"
        return [
            at
            for hop in hops
            for at in hop.positions
            if all_here or hop.is_here or (hop.place == THERE and config.server is None)
        ]

    def _stages(self, request: GenerateRequest, *, detach: bool) -> list[Stage]:
        """The list that makes what is left: stages here, and a remote one for each other hop."""
        hops = self._left()
        self._remote = []
        self._begin_loading(hops)
        remote = {
            hop.positions.start: self._remote_stage(hop, request, detach=detach)
            for hop in hops
            if not hop.is_here
        }
        stages: list[Stage] = []
        for hop in hops:
            stages += [remote[hop.positions.start]] if not hop.is_here else self._here(hop)
        if self._parts.config.fallback == "error":
            # What is wrong with a named server shows before any work; meanwhile the stages here
            # were opened.
            begun = time.perf_counter()
            for stage, hop in zip(self._remote, remote_hops(hops), strict=True):
                if self._address(hop) != PRIVATE:
                    stage.require_fit()
            self._collected.seconds["connect"] += time.perf_counter() - begun
        return stages

    def _begin_loading(self, hops: list[Hop]) -> None:
        """Start what takes long and needs no connection.

        The servers first, then the stages here, on a thread: both load while the code for
        connections does. A private server whose interpreter loads already opens its engines once
        those here are open: they are needed first, and both would share the cores.
        """
        begun, resources = time.perf_counter(), self._parts.resources
        places = [hop.place for hop in hops if not hop.is_here]
        here = [at for hop in hops if hop.is_here for at in hop.positions]
        has_time = bool(here) and THERE in places and resources.load_early()
        if not has_time:
            for place in places:
                resources.start(place)
        if places and here:
            resources.open_beside(here)
        if has_time:
            import runtime_client.remote.remote_stage  # noqa: F401, PLC0415

            resources.local_stages(here, self._deadline)
        self._collected.seconds["load"] += time.perf_counter() - begun

    def _remote_stage(self, hop: Hop, request: GenerateRequest, *, detach: bool) -> Stage:
        """The components of a hop as a stage on its server."""
        parts, begun = self._parts, time.perf_counter()
        from runtime_client.remote.named_hop import NamedHop  # noqa: PLC0415
        from runtime_client.remote.remote_stage import RemoteStage  # noqa: PLC0415

        connection = parts.resources.connection(hop.place)
        connection.link.begin_handshake()
        self._collected.seconds["load"] += time.perf_counter() - begun
        stage = RemoteStage(
            connection,
            parts.bundle.manifest,
            hop.positions,
            self._limit(hop, request),
            parts.precisions,
            self._identity(hop, detach=detach),
        )
        if parts.placement.is_cut:
            self._remote.append(stage)
            return stage
        named = NamedHop(stage, self._address(hop))
        self._remote.append(named)
        if self._is_encoder(hop):
            return RememberedStage(named, parts.resources.contexts, hop.place)
        return named

    def _identity(self, hop: Hop, *, detach: bool) -> RequestIdentity:
        """How a hop's run is known to its server."""
        is_last = hop == remote_hops(self._left())[-1]
        detached = detach and is_last
        linger_s = 0.0 if detached else self._parts.config.linger_s
        # One server may run two hops of a request: each is work of its own.
        own = "" if is_last else f".{hop.positions.start}"
        return RequestIdentity(
            request_id=f"{self._collected.request_id}{own}",
            on_disconnect=DisconnectPolicy(detach=detached, linger_s=linger_s),
            goes_on=hop.positions[-1] < self._checked.last,
            is_placed=not self._parts.placement.is_cut,
            picture_format=None if self.plan is None else self.plan.picture_format,
        )

    def _limit(self, hop: Hop, request: GenerateRequest) -> Deadline:
        """When a hop's server must be done, so that the rest could still run here."""
        config = self._parts.config
        # A private server is this machine: what it has no time for, nothing here has.
        if config.fallback != "local" or self._address(hop) == PRIVATE:
            return self._deadline
        rest = range(hop.positions.start, self._checked.last + 1)
        return before_fallback(self._deadline, self._parts.local_times.rest_s(request, rest))

    def _here(self, hop: Hop) -> list[Stage]:
        """The components of a hop as stages on this machine."""
        begun = time.perf_counter()
        stages = self._parts.resources.local_stages(hop.positions, self._deadline)
        self._collected.seconds["load"] += time.perf_counter() - begun
        return stages

    def _side(self, hop: Hop) -> str:
        """A hop's place as a result calls it."""
        if hop.is_here:
            return HERE
        return PRIVATE if self._address(hop) == PRIVATE else SERVER

    def _address(self, hop: Hop) -> str:
        """Of a hop's server, for people."""
        return (self._parts.config.server or PRIVATE) if hop.place == THERE else hop.place

    def _is_encoder(self, hop: Hop) -> bool:
        """Whether a hop makes a context of a prompt and nothing else."""
        specs = [self._parts.bundle.manifest.components[at] for at in hop.positions]
        is_encoder = isinstance(specs[-1].makes, Context)
        return is_encoder and value_of(Prompt, specs[0].starts_from) is not None


def remote_hops(hops: list[Hop]) -> list[Hop]:
    """Those that run on servers."""
    return [hop for hop in hops if not hop.is_here]


def with_words(handoff: Handoff, event: Event) -> Handoff:
    """The handoff with the embeddings that an event brings, if it brings any."""
    if not isinstance(event, StageFinished):
        return handoff
    return replace(
        handoff,
        context=event.handoff.context,
        vectors={**handoff.vectors, **event.handoff.vectors},
    )


def with_negative(request: GenerateRequest, event: Event) -> GenerateRequest:
    """The request with the embeddings of its negative prompt that an event brings, if it does."""
    if not isinstance(event, StageFinished):
        return request
    return request.with_negative(event.handoff.context)
