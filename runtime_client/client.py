"""The client: one bundle, one place to cut it, and the stages on both sides of the cut.

Builds the list of stages that `cascade.generate` runs, and continues here when the server is gone
and the configuration says so. What only a request needs (gRPC, ONNX Runtime, samplers, pictures) is
imported by the first one: importing this package stays quick, and the private server loads
meanwhile. Knows no screen and no file but the bundle.
"""

import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack, cast

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import Cancelled, CascadeError, DeadlineExceeded, InvalidRequest, TransportError
from cascade.events import Accepted, Event, FellBack, ProgressThrottle, StageFinished
from cascade.families import family_of, warnings_of
from cascade.generate import generate
from cascade.request import GenerateRequest
from cascade.stage import Stage
from cascade.system.owning_process import OwningProcess
from cascade.tuning.plan import EnginePlan, plan_here, requested_precisions
from runtime_client.config import ClientChoices, ClientConfig, check_cut, check_leaves_work
from runtime_client.local.local_times import LocalTimes, before_fallback
from runtime_client.remote.deadline import Deadline
from runtime_client.remote.retry import RETRIED
from runtime_client.result import HERE, PRIVATE, SERVER, Collected, Result

if TYPE_CHECKING:
    from cascade.family import PlanWarning
    from runtime_client.local.local_stages import LocalStages
    from runtime_client.local.private_server import PrivateServer
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
        **choices: Unpack[ClientChoices],
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
        self._lock = threading.Lock()
        self._private: PrivateServer | None = None
        self._connection: Connection | None = None
        self._local: LocalStages | None = None
        self._closed = False

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
        account = Collected(request_id=uuid.uuid4().hex)
        from runtime_client.request_checks import check_request  # noqa: PLC0415

        checked = check_request(self.bundle.manifest, request)
        check_leaves_work(self.config, checked.last)
        with naming_errors(account.request_id):
            stages = self._stages(checked.positions, deadline, account, detach=True)
            events = generate(stages, checked.request, request.start)
            with closing(cast(Generator[Event, None, None], events)):
                for event in events:
                    if on_event is not None:
                        on_event(event)
                    if isinstance(event, Accepted):
                        return account.request_id
                    deadline.remaining_s()
                    self._refuse_early()
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
        from runtime_client.remote.resumed_request import FetchedRun  # noqa: PLC0415

        collected = Collected(request_id=request_id)
        with naming_errors(request_id):
            connection = self._connect_to_named()
            run = FetchedRun(connection, self.bundle.manifest, request_id, deadline)
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
            return self._connect_to_named().cancel(request_id)

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
        from runtime_client.request_checks import check_request  # noqa: PLC0415

        checked = check_request(self.bundle.manifest, request)
        components = [self.bundle.manifest.components[at] for at in checked.positions]
        return warnings_of(components, checked.request)

    def close(self) -> None:
        """End what is in progress, the private server included, and release everything."""
        if not self._owner.is_this:
            return
        with self._lock:
            self._closed = True
            private, connection, local = self._private, self._connection, self._local
            self._private = self._connection = self._local = None
        end_server(private, connection)
        if local is not None:
            local.close()

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
            server_version=self._connection.software_version if self._connection else "",
            warnings=() if request is None else self.warnings(request),
        )

    def _sides(self, collected: Collected, request: GenerateRequest | None) -> dict[str, str]:
        """Where each component ran; what was fetched ran on the server."""
        components = self.bundle.manifest.components
        there = PRIVATE if self.config.server is None else SERVER
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
        return self._connect(None)

    def _events(self, request: GenerateRequest, account: Collected) -> Iterator[Event]:
        """The events of one request; its errors name it."""
        with naming_errors(account.request_id):
            progress = ProgressThrottle()
            events = self._with_fallback(request, account)
            with closing(cast(Generator[Event, None, None], events)):
                for event in events:
                    if progress.passes(event):
                        yield event

    def _with_fallback(self, request: GenerateRequest, account: Collected) -> Iterator[Event]:
        """The events of one request, with the fallback; loading is put on the account."""
        self._owner.check("this client")
        deadline = Deadline.after(self.config.timeout_s)
        from runtime_client.request_checks import check_request  # noqa: PLC0415  see the top

        checked = check_request(self.bundle.manifest, request)
        request, last = checked.request, checked.last
        handoff, done = request.start, checked.first
        limit = deadline
        rest = checked.positions[max(0, self.config.cut - checked.first) :]
        # A private server is this machine: what it has no time for, nobody here has.
        if self.config.fallback == "local" and self.config.server is not None and rest:
            limit = before_fallback(deadline, self._local_times.rest_s(request, rest))
        try:
            stages = self._stages(checked.positions, deadline, account, limit=limit)
            for event in generate(stages, request, handoff):
                if isinstance(event, StageFinished):
                    handoff = event.handoff
                    done = self.bundle.manifest.position(event.stage) + 1
                yield event
                self._owner.check("this request")
                deadline.remaining_s()
                self._refuse_early()
            return
        except FALL_BACK_ON as exc:
            if self.config.fallback != "local" or done > last or deadline.is_over:
                raise
            reason = str(exc)
        yield FellBack(self.bundle.manifest.components[done].name, reason)
        here = self._here(range(done, last + 1), account, deadline)
        for event in generate(here, request, handoff):
            if isinstance(event, StageFinished):
                self._local_times.note(event.stage, request, sum(event.seconds.values()))
            yield event
            self._owner.check("this request")
            deadline.remaining_s()

    def _stages(
        self,
        positions: range,
        deadline: Deadline,
        account: Collected,
        *,
        limit: Deadline | None = None,
        detach: bool = False,
    ) -> list[Stage]:
        """The list that makes a picture: stages here, then a remote one for the rest.

        The server has until `limit`, where a fallback needs the time after it.
        """
        mine = max(0, self.config.cut - positions.start)
        if not positions[mine:]:
            return self._here(positions, account, deadline)
        begun = time.perf_counter()
        # The server first: it loads while the stages here do.
        private = self._start_private()
        from runtime_client.remote.remote_stage import RemoteStage  # noqa: PLC0415
        from runtime_client.remote.request_identity import (  # noqa: PLC0415
            DisconnectPolicy,
            RequestIdentity,
        )

        connection = self._connect(private)
        connection.begin()
        account.seconds["load"] += time.perf_counter() - begun
        presence = (
            DisconnectPolicy(detach=True)
            if detach
            else DisconnectPolicy(linger_s=self.config.linger_s)
        )
        remote = RemoteStage(
            connection,
            self.bundle.manifest,
            positions[mine:],
            limit or deadline,
            self._demanded,
            RequestIdentity(request_id=account.request_id, on_disconnect=presence),
        )
        here = self._here(positions[:mine], account, deadline)
        if private is None and self.config.fallback == "error":
            # What is wrong with it shows before any work; meanwhile the stages here were opened.
            remote.require_fit()
        return [*here, remote]

    def _here(self, positions: range, account: Collected, deadline: Deadline) -> list[Stage]:
        """Components as stages on this machine."""
        if not positions:
            return []
        begun = time.perf_counter()
        from runtime_client.local.local_stages import LocalStages  # noqa: PLC0415

        with self._lock:
            self._refuse_when_closed()
            if self._local is None:
                self._local = LocalStages(self.bundle, self.config.engine_options)
            local = self._local
        stages = [local.at(position, deadline) for position in positions]
        account.seconds["load"] += time.perf_counter() - begun
        return stages

    def _start_private(self) -> "PrivateServer | None":
        """The private server, started if it is not running; None where one is named."""
        if self.config.server is not None:
            return None
        from runtime_client.local.private_server import PrivateServer  # noqa: PLC0415

        with self._lock:
            self._refuse_when_closed()
            if self._private is not None and self._private.is_alive:
                return self._private
            dead, connection = self._private, self._connection
            self._private = PrivateServer(
                self.bundle.folder,
                self._private_plan(),
                self.config.cut,
                self.config.require_signature,
            )
            self._connection = None
            private = self._private
        end_server(dead, connection)
        return private

    def _private_plan(self) -> EnginePlan:
        """What a private server is told: the very choices that this process would make."""
        manifest = self.bundle.manifest
        return plan_here(
            manifest, self.config.engine_options, range(self.config.cut, len(manifest.components))
        )

    def _connect(self, private: "PrivateServer | None") -> "Connection":
        """The connection, made on first use."""
        from runtime_client.remote.connection import Connection  # noqa: PLC0415
        from runtime_client.remote.credentials import BearerToken  # noqa: PLC0415
        from runtime_client.remote.transport import Keepalive, Security  # noqa: PLC0415

        config = self.config
        address = config.server or ""
        locate: Callable[[], str] = lambda: address  # noqa: E731 - one of two
        if private is not None:
            locate = partial(private.wait_until_ready, config.timeout_s)
        with self._lock:
            self._refuse_when_closed()
            if self._connection is None:
                security = Security(
                    tls=config.tls,
                    ca_file=config.ca_file,
                    client_cert=config.client_cert,
                    client_key=config.client_key,
                    token=BearerToken(token=config.token, file=config.token_file),
                    keepalive=Keepalive.within(config.dead_link_s),
                )
                self._connection = Connection(
                    locate,
                    security,
                    self.bundle.bundle_id,
                    config.timeout_s,
                    # A private server that is gone does not come back.
                    0.0 if private is not None else config.linger_s,
                )
            return self._connection

    def _refuse_early(self) -> None:
        """Raise what the handshake failed with, rather than work on towards no server."""
        connection = self._connection
        if connection is not None and self.config.fallback == "error":
            connection.raise_failure()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Cancelled("the client was closed")


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


def end_server(private: "PrivateServer | None", connection: "Connection | None") -> None:
    """Cancel the calls first: a server that is asked to end would wait for them."""
    if private is not None:
        private.stop_waiting()
    if connection is not None:
        connection.close()
    if private is not None:
        private.close()
