"""The client: one bundle, one place to cut it, and the stages on both sides of the cut.

Builds the list of stages that `cascade.generate` runs, and continues here when the server is gone
and the configuration says so. What only a request needs (gRPC, ONNX Runtime, samplers, pictures) is
imported by the first one (see `resources`). Knows no screen and no file but the bundle.
"""

import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import CascadeError, DeadlineExceeded, InvalidRequest, TransportError
from cascade.events import Accepted, Event, FellBack, ProgressThrottle, StageFinished
from cascade.families import family_of, warnings_of
from cascade.generate import generate
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.system.owning_process import OwningProcess
from cascade.tuning.plan import requested_precisions
from cascade.types import ImageU8
from runtime_client.config import ClientConfig, check_cut, check_leaves_work
from runtime_client.deadline import Deadline
from runtime_client.local.local_times import LocalTimes, before_fallback
from runtime_client.many_requests import in_parallel
from runtime_client.remote.request_identity import DisconnectPolicy, RequestIdentity
from runtime_client.remote.retry import RETRIED
from runtime_client.request_checks import CheckedRequest, check_request
from runtime_client.resources import ClientResources
from runtime_client.result import HERE, PRIVATE, SERVER, Collected, Result

if TYPE_CHECKING:
    from cascade.family import PlanWarning
    from runtime_client.remote.connection import Connection

OnEvent = Callable[[Event], None]
FALL_BACK_ON: tuple[type[CascadeError], ...] = (*RETRIED, DeadlineExceeded)
"""Of a server; the rest may then run here."""


class Client:
    """Makes pictures from prompts. Requests may come from several threads at once.

    Belongs to the process that made it: in a forked child its methods raise `InvalidRequest`, and
    closing it does nothing there.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        config: ClientConfig | None = None,
        **choices: Any,
    ) -> None:
        """A client; nothing is started or loaded yet.

        Args:
            bundle: an opened bundle, or its folder.
            config: how to work; the defaults when None.
            **choices: fields of `ClientConfig`, over those of `config`.

        Raises:
            InvalidRequest: a choice is wrong or does not fit the bundle.
            ManifestError: the bundle is broken.
        """
        self.config = replace(config or ClientConfig(), **choices)
        self.bundle = opened(bundle, self.config.require_signature)
        check_cut(self.bundle.manifest, self.config.cut)
        self._demanded = requested_precisions(self.bundle.manifest, self.config.engine_options)
        self._local_times = LocalTimes(self.bundle.manifest, self.config.engine_options)
        self._owner = OwningProcess()
        self._resources = ClientResources(self.bundle, self.config)

    def generate(
        self,
        prompt: str,
        *,
        seed: int = 0,
        image_index: int = 0,
        options: Mapping[str, DiffusionOptions] | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """One picture from a prompt; `run` takes a whole request.

        Raises:
            CascadeError: see `run`.
        """
        request = GenerateRequest(
            prompt=prompt, seed=seed, image_index=image_index, options=options or {}
        )
        return self.run(request, on_event=on_event)

    def upscale(
        self,
        picture: ImageU8,
        *,
        prompt: str | None = None,
        seed: int = 0,
        first_stage: str | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """One's own picture, larger; `run` takes a whole request, with `own_picture`.

        Args:
            picture: `[height, width, 3]` uint8 RGB, of any size.
            prompt: what it shows, where a text encoder and the stages take words.
            seed: 0 to 2^64 - 1.
            first_stage: the first of the stages that enlarge it; the last one alone when None.
            on_event: called with every event as it happens.

        Returns:
            The picture, larger by the product of the stages' factors.

        Raises:
            InvalidRequest: no stage takes it, or what it makes would be too large.
            CascadeError: see `run`.
        """
        request = GenerateRequest(
            picture=picture, own_picture=True, prompt=prompt, seed=seed, first_stage=first_stage
        )
        return self.run(request, on_event=on_event)

    def run(self, request: GenerateRequest, *, on_event: OnEvent | None = None) -> Result:
        """One picture.

        Args:
            request: what to make.
            on_event: called with every event as it happens.

        Raises:
            InvalidRequest: the request does not fit the bundle.
            TransportError: the server is gone and `fallback` is `error`.
            CascadeError: see `cascade.errors`.
        """
        collected = Collected(request_id=uuid.uuid4().hex)
        self._collect(self._events(request, collected), collected, on_event)
        return self._result(collected, request)

    def run_many(
        self, requests: Sequence[GenerateRequest], *, parallel: int = 4
    ) -> Iterator[tuple[int, Result | CascadeError]]:
        """Many pictures; one that fails costs the others nothing.

        Requests that a server has at once share runs of its engines where that pays there.

        Args:
            requests: what to make.
            parallel: how many are in progress at once, from 1.

        Yields:
            As they end, the place of a request and its picture, or why there is none.
        """
        return in_parallel(self.run, requests, parallel)

    def submit(self, request: GenerateRequest, *, on_event: OnEvent | None = None) -> str:
        """Run the components here, leave the rest to the server, and go: see `fetch`.

        The server ends the work after this client's `timeout_s`, counted from now.

        Args:
            request: what to make.
            on_event: called with every event until the server has taken the request.

        Returns:
            The request id that `fetch` and `cancel` take.

        Raises:
            InvalidRequest: no server is named, or nothing of the request runs there.
            CascadeError: see `run`.
        """
        self._owner.check("this client")
        deadline = Deadline.after(self.config.timeout_s)
        collected = Collected(request_id=uuid.uuid4().hex)

        checked = check_request(self.bundle.manifest, request)
        check_leaves_work(self.config, checked.last)
        with naming_errors(collected.request_id):
            handoff = request.start
            for event in self._words(checked, deadline, collected, deadline):
                handoff = with_words(handoff, event)
            stages = self._stages(checked.positions, deadline, collected, detach=True)
            events = generate(stages, checked.request, handoff)
            with closing(cast(Generator[Event, None, None], events)):
                for event in events:
                    if on_event is not None:
                        on_event(event)
                    if isinstance(event, Accepted):
                        return collected.request_id
                    deadline.remaining_s()
                    self._raise_handshake_failure()
            raise TransportError("the server did not say that it took the request")

    def fetch(self, request_id: str, *, on_event: OnEvent | None = None) -> Result:
        """The picture of a request that was left to the server; waits until it is made.

        Args:
            request_id: as `submit` returned it.
            on_event: called with every event as it happens.

        Returns:
            Only the pictures of the components that the server ran; no seed, and of the seconds
            those of this call alone.

        Raises:
            UnknownRequest: the server knows nothing of that id (any more).
            CascadeError: what the work failed with, or see `run`.
        """
        deadline = Deadline.after(self.config.timeout_s)
        from runtime_client.remote.resumed_request import ResumedRequest  # noqa: PLC0415

        collected = Collected(request_id=request_id)
        with naming_errors(request_id):
            connection = self._connect_to_named()
            run = ResumedRequest(connection, self.bundle.manifest, request_id, deadline)
            self._collect(run.events(), collected, on_event)
        # Spent before, and not by this call.
        components = self.bundle.manifest.components
        names = [row for spec in components for row in family_of(spec).time_rows(spec)]
        for name in (*names, "queue"):
            collected.seconds.pop(name, None)
        return self._result(collected, None)

    def cancel(self, request_id: str) -> bool:
        """End a request that was left to the server, and forget what is kept of it.

        Returns:
            Whether there was anything.
        """
        with naming_errors(request_id):
            return self._connect_to_named().link.cancel(request_id)

    def events(self, request: GenerateRequest) -> Iterator[Event]:
        """Everything that happens while one picture is made; closing the iterator cancels.

        Raises:
            CascadeError: see `run`.
        """
        return self._events(request, Collected(request_id=uuid.uuid4().hex))

    def warnings(self, request: GenerateRequest) -> "tuple[PlanWarning, ...]":
        """What a request asks for that its stages were hardly trained for; most ask for nothing.

        Raises:
            InvalidRequest: the request does not fit the bundle.
        """
        checked = check_request(self.bundle.manifest, request)
        components = [self.bundle.manifest.components[at] for at in checked.positions]
        return warnings_of(components, checked.request)

    def close(self) -> None:
        """End what is in progress, the private server included, and release everything."""
        if self._owner.is_this:
            self._resources.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _collect(
        self, events: Iterator[Event], collected: Collected, on_event: OnEvent | None
    ) -> None:
        """Take in every event, and the time that it all took."""
        begun = time.perf_counter()
        for event in events:
            collected.add(event)
            if on_event is not None:
                on_event(event)
        collected.seconds["total"] = time.perf_counter() - begun

    def _result(self, collected: Collected, request: GenerateRequest | None) -> Result:
        """What was collected, as the caller gets it."""
        return Result(
            image=collected.image,
            images=dict(collected.images),
            seconds=dict(collected.seconds),
            bytes_up=collected.bytes_up,
            bytes_down=collected.bytes_down,
            bundle_id=self.bundle.bundle_id,
            seed=None if request is None else request.seed,
            image_index=None if request is None else request.image_index,
            cut=self.config.cut,
            fell_back=collected.fell_back,
            computed=dict(collected.computed),
            request_id=collected.request_id,
            sides=self._sides(collected, request),
            server_version=self._resources.server_version,
            packing=dict(collected.packing),
            warnings=() if request is None else self.warnings(request),
        )

    def _sides(self, collected: Collected, request: GenerateRequest | None) -> dict[str, str]:
        """Where each component ran; what was fetched ran on the server."""
        components = self.bundle.manifest.components
        there = PRIVATE if self.config.server is None else SERVER
        # A fetched request has no request here: whatever came of it, the server made.
        here = 0 if request is None else self.config.cut
        back = len(components)
        if collected.fell_back_at:
            back = self.bundle.manifest.position(collected.fell_back_at)
        return {
            component.name: HERE if position < here or position >= back else there
            for position, component in enumerate(components)
        }

    def _connect_to_named(self) -> "Connection":
        """The connection to the server of the configuration.

        Raises:
            InvalidRequest: there is none; a private server keeps nothing beyond its client.
        """
        self._owner.check("this client")
        if self.config.server is None:
            raise InvalidRequest("server: name the server that has the request", field="server")
        return self._resources.connection()

    def _events(self, request: GenerateRequest, collected: Collected) -> Iterator[Event]:
        """The events of one request; its errors name it."""
        with naming_errors(collected.request_id):
            progress = ProgressThrottle()
            events = self._with_fallback(request, collected)
            with closing(cast(Generator[Event, None, None], events)):
                for event in events:
                    if progress.passes(event):
                        yield event

    def _with_fallback(self, request: GenerateRequest, collected: Collected) -> Iterator[Event]:
        """The events of one request, with the fallback; loading is noted in `collected`."""
        self._owner.check("this client")
        deadline = Deadline.after(self.config.timeout_s)

        checked = check_request(self.bundle.manifest, request)
        request, last = checked.request, checked.last
        handoff, done = request.start, checked.first
        limit = deadline
        rest = checked.positions[max(0, self.config.cut - checked.first) :]
        # A private server is this machine: what it has no time for, nobody here has.
        if self.config.fallback == "local" and self.config.server is not None and rest:
            limit = before_fallback(deadline, self._local_times.rest_s(request, rest))
        for event in self._words(checked, deadline, collected, limit):
            handoff = with_words(handoff, event)
            yield event
        try:
            stages = self._stages(checked.positions, deadline, collected, limit=limit)
            for event in generate(stages, request, handoff):
                if isinstance(event, StageFinished):
                    handoff = event.handoff
                    # What is finished is kept for the fallback, which then runs only the rest.
                    done = self.bundle.manifest.position(event.stage) + 1
                yield event
                self._owner.check("this request")
                deadline.remaining_s()
                self._raise_handshake_failure()
            return
        except FALL_BACK_ON as exc:
            if self.config.fallback != "local" or done > last or deadline.is_over:
                raise
            reason = str(exc)
        yield FellBack(self.bundle.manifest.components[done].name, reason)
        here = self._here(range(done, last + 1), deadline, collected)
        for event in generate(here, request, handoff):
            if isinstance(event, StageFinished):
                self._local_times.note(event.stage, request, sum(event.seconds.values()))
            yield event
            self._owner.check("this request")
            deadline.remaining_s()

    def _words(
        self, checked: CheckedRequest, deadline: Deadline, collected: Collected, limit: Deadline
    ) -> Iterator[Event]:
        """The events of the component that encodes the words beside a caller's own picture.

        Args:
            checked: the request; nothing is done where it has no such words.
            deadline: of the whole request.
            collected: takes in the time of loading.
            limit: when a server must be done.
        """
        if checked.words is None:
            return
        position = checked.words
        only, start = range(position, position + 1), Handoff(prompt=checked.request.prompt)
        # An id of its own: under the request's the server knows the work on the picture.
        own = replace(collected, request_id=f"{collected.request_id}-words")
        try:
            yield from generate(self._stages(only, limit, own), checked.request, start)
            return
        except FALL_BACK_ON as exc:
            if self.config.fallback != "local" or position < self.config.cut or deadline.is_over:
                raise
            reason = str(exc)
        yield FellBack(self.bundle.manifest.components[position].name, reason)
        yield from generate(self._here(only, deadline, own), checked.request, start)

    def _stages(
        self,
        positions: range,
        deadline: Deadline,
        collected: Collected,
        *,
        limit: Deadline | None = None,
        detach: bool = False,
    ) -> list[Stage]:
        """The list that makes a picture: stages here, then a remote one for the rest.

        The server has until `limit`, where a fallback needs the time after it.
        """
        mine = max(0, self.config.cut - positions.start)
        if not positions[mine:]:
            return self._here(positions, deadline, collected)
        begun = time.perf_counter()
        from runtime_client.remote.remote_stage import RemoteStage  # noqa: PLC0415

        # The server first: it loads while the stages here do.
        connection = self._resources.connection()
        connection.link.begin_handshake()
        collected.seconds["load"] += time.perf_counter() - begun
        policy = DisconnectPolicy(detach=detach, linger_s=0.0 if detach else self.config.linger_s)
        remote = RemoteStage(
            connection,
            self.bundle.manifest,
            positions[mine:],
            limit or deadline,
            self._demanded,
            RequestIdentity(request_id=collected.request_id, on_disconnect=policy),
        )
        here = self._here(positions[:mine], deadline, collected)
        if self.config.server is not None and self.config.fallback == "error":
            # What is wrong with it shows before any work; meanwhile the stages here were opened.
            remote.require_fit()
        return [*here, remote]

    def _here(self, positions: range, deadline: Deadline, collected: Collected) -> list[Stage]:
        """Components as stages on this machine."""
        if not positions:
            return []
        begun = time.perf_counter()
        stages = self._resources.local_stages(positions, deadline)
        collected.seconds["load"] += time.perf_counter() - begun
        return stages

    def _raise_handshake_failure(self) -> None:
        """Raise what the handshake failed with, rather than work on towards no server."""
        if self.config.fallback == "error":
            self._resources.raise_handshake_failure()


def with_words(handoff: Handoff, event: Event) -> Handoff:
    """The handoff with the embeddings that an event brings, if it brings any."""
    if not isinstance(event, StageFinished):
        return handoff
    return replace(handoff, context=event.handoff.context)


@contextmanager
def naming_errors(request_id: str) -> Iterator[None]:
    """Put a request's id on what it ends with."""
    try:
        yield
    except CascadeError as exc:
        exc.request_id = request_id
        raise


def opened(bundle: Bundle | Path | str, signed_by: Path | None) -> Bundle:
    """The bundle, opened here unless it is already and no signature is wanted."""
    if isinstance(bundle, Bundle):
        return bundle if signed_by is None else open_bundle(bundle.folder, signed_by)
    return open_bundle(bundle, signed_by)
