"""The client: one bundle, and a place for each of its components, here or on servers.

Makes, leaves, fetches and cancels pictures; how one request runs, `placed_run` knows. What only a
request needs (gRPC, ONNX Runtime, samplers, pictures) is imported by the first one (see
`resources`). Knows no screen and no file but the bundle.
"""

import copy
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.edit import Edit
from cascade.errors import CascadeError, InvalidRequest, TransportError
from cascade.events import Accepted, Event, ProgressThrottle
from cascade.families import family_of, warnings_of
from cascade.request import GenerateRequest, KeptPicture
from cascade.system.free_memory import give_back_free_memory
from cascade.system.owning_process import OwningProcess
from cascade.tuning.plan import requested_precisions
from cascade.types import ImageU8
from runtime_client.config import DEFAULT_CUT, ClientConfig, check_leaves_work
from runtime_client.deadline import Deadline
from runtime_client.ending import Ending
from runtime_client.local.local_times import LocalTimes
from runtime_client.many_requests import in_parallel
from runtime_client.placed_run import ClientParts, PlacedRun
from runtime_client.placement import HERE, THERE
from runtime_client.placement_chooser import PlacementChooser, configured_placement
from runtime_client.request_checks import check_request
from runtime_client.resources import ClientResources
from runtime_client.result import PRIVATE, SERVER, Collected, Result

if TYPE_CHECKING:
    from cascade.family import PlanWarning
    from runtime_client.planning.capacity import CapacityPlan
    from runtime_client.planning.placement_plan import PlacementPlan, WhatIf
    from runtime_client.remote.connection import Connection

OnEvent = Callable[[Event], None]


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
        manifest, options = self.bundle.manifest, self.config.engine_options
        self.placement = configured_placement(manifest, self.config)
        """Where components run; chosen anew for each request where the configuration says so."""
        self._owner = OwningProcess()
        self.ending: Ending | None = None
        """Of the calls of this view, see `ended_by`; None ends none."""
        self._resources = ClientResources(self.bundle, self.config, self.placement)
        self._parts = ClientParts(
            bundle=self.bundle,
            config=self.config,
            placement=self.placement,
            resources=self._resources,
            precisions=requested_precisions(manifest, options),
            local_times=LocalTimes(manifest, options),
        )
        self._chooser = PlacementChooser(self._parts)

    def generate(  # noqa: PLR0913  what most requests say, each by its name
        self,
        prompt: str,
        *,
        seed: int = 0,
        image_index: int = 0,
        options: Mapping[str, DiffusionOptions] | None = None,
        edit: Edit | None = None,
        vectors: Mapping[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """One picture from a prompt; `run` takes a whole request.

        Args:
            prompt: what it shows.
            seed: 0 to 2^64 - 1.
            image_index: which picture of that seed.
            options: of components, by name.
            edit: a picture of one's own that it is made of: image-to-image, and inpainting with a
                mask. Its middle is taken, at the size of the first stage; with a mask at that of
                the last stage whose pictures are not larger.
            vectors: by name, what stages read beside the words: sequences of numbers, or arrays.
            on_event: called with every event as it happens.

        Raises:
            CascadeError: see `run`.
        """
        request = GenerateRequest(
            prompt=prompt,
            vectors=vectors or {},
            seed=seed,
            image_index=image_index,
            options=options or {},
            edit=edit,
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

    def upscale_kept(
        self,
        kept: KeptPicture,
        *,
        prompt: str | None = None,
        seed: int = 0,
        options: Mapping[str, DiffusionOptions] | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """A picture that the server kept, larger again, by the stages after the one that made it.

        With the prompt, seed and options of the finished request it comes to the same pixels.

        Args:
            kept: the finished request, and the component whose picture is meant.
            prompt: what it shows, where the stages take words; None for no words.
            seed: 0 to 2^64 - 1.
            options: of components, by name: another augmentation, other steps.
            on_event: called with every event as it happens.

        Raises:
            UnknownRequest: the server keeps no such picture (any more).
            InvalidRequest: the first of the stages runs on this machine.
            CascadeError: see `run`.
        """
        request = GenerateRequest(kept=kept, prompt=prompt, seed=seed, options=options or {})
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
        collected, runs = Collected(request_id=uuid.uuid4().hex), list[PlacedRun]()
        self._collect(self._events(request, collected, runs), collected, on_event)
        return self._result(collected, runs[0])

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
        collected = Collected(request_id=uuid.uuid4().hex)
        run = self._begin(request, collected, ends_there=True)
        check_leaves_work(self.config, run.last)
        with naming_errors(collected.request_id):
            with closing(run.detached()) as events:
                for event in events:
                    if on_event is not None:
                        on_event(event)
                    if isinstance(event, Accepted) and run.is_in_last_hop:
                        return collected.request_id
                    run.check_goes_on()
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
        deadline = self._deadline()
        from runtime_client.remote.resumed_request import ResumedRequest  # noqa: PLC0415

        collected = Collected(request_id=request_id)
        with naming_errors(request_id):
            connection = self._connect_to_named()
            run = ResumedRequest(connection, self.bundle.manifest, request_id, deadline)
            if self.ending is not None:
                self.ending.watch(run)
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
        return self._events(request, Collected(request_id=uuid.uuid4().hex), [])

    def warnings(self, request: GenerateRequest) -> "tuple[PlanWarning, ...]":
        """What a request asks for that its stages were hardly trained for; most ask for nothing.

        Raises:
            InvalidRequest: the request does not fit the bundle.
        """
        checked = check_request(self.bundle.manifest, request)
        components = [self.bundle.manifest.components[at] for at in checked.positions]
        return warnings_of(components, checked.request)

    def ended_by(self, ending: Ending) -> "Client":
        """The same client, whose calls another thread can end.

        Args:
            ending: of one call; asked for, the call raises `Cancelled` within a step.

        Returns:
            A view that shares everything with this one, and is not closed by itself.
        """
        view = copy.copy(self)
        view.ending = ending
        return view

    def close(self) -> None:
        """End what is in progress, the private server included, and release everything."""
        if self._owner.is_this:
            self._chooser.stop()
            self._resources.close()
            self._chooser.close()

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

    def _result(self, collected: Collected, run: PlacedRun | None) -> Result:
        """What was collected, as the caller gets it; `run` is None where it was fetched."""
        request = None if run is None else run.request
        there = PRIVATE if self.config.server is None else SERVER
        names = [component.name for component in self.bundle.manifest.components]
        return Result(
            image=collected.image,
            images=dict(collected.images),
            seconds=dict(collected.seconds),
            bytes_up=collected.bytes_up,
            bytes_down=collected.bytes_down,
            bundle_id=self.bundle.bundle_id,
            seed=None if request is None else request.seed,
            image_index=None if request is None else request.image_index,
            cut=self.placement.cut if run is None else run.placement.cut,
            fell_back=collected.fell_back,
            computed=dict(collected.computed),
            request_id=collected.request_id,
            # Whatever came of a fetched request, the server made.
            sides=dict.fromkeys(names, there) if run is None else run.sides,
            server_version=self._resources.server_version,
            hops=() if run is None else run.accounts,
            packing=dict(collected.packing),
            plan=None if run is None or run.plan is None else run.plan.as_object(),
            sent_as=collected.sent_as,
            formats=dict(collected.formats),
            preview_formats=dict(collected.preview_formats),
            engine_seconds=dict(collected.engine_seconds),
            warnings=() if request is None else self.warnings(request),
        )

    def _connect_to_named(self) -> "Connection":
        """The connection to the server that makes the end of a detached request.

        Raises:
            InvalidRequest: there is none; a private server keeps nothing beyond its client.
        """
        self._owner.check("this client")
        last = self.placement.places[-1]
        place = THERE if last == HERE else last
        if place == THERE and self.config.server is None:
            raise InvalidRequest("server: name the server that has the request", field="server")
        return self._resources.connection(place)

    def plan(self, request: GenerateRequest, what_if: "WhatIf | None" = None) -> "PlacementPlan":
        """Where the components of a request would run, and what each placement would take.

        Runs nothing. Waits for the server's first answer.

        Args:
            request: what to make.
            what_if: facts in the place of those that are known.

        Raises:
            InvalidRequest: the configuration chooses no placement, or names no server; or the
                request does not fit the bundle.
            CascadeError: the server does not answer, or does not fit.
        """
        self._owner.check("this client")
        checked = check_request(self.bundle.manifest, request)
        return self._chooser.plan(checked, self._deadline(), what_if)

    def capacity(self, request: GenerateRequest, cut: int = DEFAULT_CUT) -> "CapacityPlan":
        """What servers like this one, or this machine, can do for requests like this one.

        Runs nothing; a server is asked what its runs took.

        Args:
            request: what to make.
            cut: components before this position run on devices, the others on a replica.

        Raises:
            InvalidRequest: nothing runs behind the cut, or its times were not measured; or the
                configuration names a server and chooses no placement.
            CascadeError: the server does not answer, or does not fit.
        """
        self._owner.check("this client")
        checked = check_request(self.bundle.manifest, request)
        return self._chooser.capacity(checked, self._deadline(), cut)

    def wait_ahead(self) -> None:
        """Wait until what is opened and measured between requests is done; see `works_ahead`."""
        self._chooser.wait()

    def _begin(
        self, request: GenerateRequest, collected: Collected, *, ends_there: bool = False
    ) -> PlacedRun:
        """A request that fits the bundle, begun now.

        Args:
            request: what to make.
            collected: has its id.
            ends_there: whether a server must make the end of it.
        """
        self._owner.check("this client")
        deadline = self._deadline()
        checked = check_request(self.bundle.manifest, request)
        run = self._chooser.run(checked, collected, deadline, ends_there=ends_there)
        if self.ending is not None:
            self.ending.watch(run)
        return run

    def _deadline(self) -> Deadline:
        """When a call that begins now must be over."""
        return Deadline.after(self.config.timeout_s, ending=self.ending)

    def _events(
        self, request: GenerateRequest, collected: Collected, runs: list[PlacedRun]
    ) -> Iterator[Event]:
        """The events of one request; its errors name it.

        Args:
            request: what to make.
            collected: has its id.
            runs: the run is added to it, once it has begun.
        """
        with naming_errors(collected.request_id):
            run = self._begin(request, collected)
            runs.append(run)
            progress = ProgressThrottle()
            with closing(self._chooser.events(run)) as events:
                for event in events:
                    if progress.passes(event):
                        yield event
                    self._owner.check("this request")
                    run.check_goes_on()
            # What the stages here took for their runs: with others at work they take it again.
            give_back_free_memory()


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
        return bundle if signed_by is None else open_bundle(bundle.folder, signed_by, runs=())
    # What is missing of it shows in the requests that need it.
    return open_bundle(bundle, signed_by, runs=())
