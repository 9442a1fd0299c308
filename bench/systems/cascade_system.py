"""Our own system: a client cut somewhere, and a private or a named server behind a link.

The private server hosts every component and outlives the clients of a grid's cells; between it and
a client stands a shaped link, or nothing. Knows the client's face and its private server.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.link.child import LinkChild
from bench.link.shape import LinkShape
from bench.systems.system import OnPicture, PictureOutcome
from bench.workload import WorkItem
from cascade.addresses import UNIX_PREFIX, split_address
from cascade.bundle.bundle import Bundle
from cascade.events import Event, StageFinished
from cascade.families import family_of
from cascade.tuning.plan import plan_here
from cascade.types import ImageU8
from runtime_client.cli.picture_file import write_picture
from runtime_client.cli.picture_format import encode_picture, format_of
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_client.local.private_server import PrivateServer
from runtime_client.placement_chooser import configured_placement
from runtime_client.result import HERE, Result

WriteFile = Callable[[ImageU8], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeChoice:
    """Which of our systems.

    Attributes:
        bundle: opened.
        config: of the client; its server is named or None, its cut is the cell's.
        link: between the two.
    """

    bundle: Bundle
    config: ClientConfig
    link: LinkShape

    @property
    def needs_server(self) -> bool:
        """Whether anything is left to a server, or may be."""
        places = configured_placement(self.bundle.manifest, self.config).places
        return self.config.is_auto or set(places) != {HERE}


class HostedServer:
    """A private server of every component: hosts whatever a cut leaves to it."""

    def __init__(self, bundle: Bundle, config: ClientConfig) -> None:
        """Start it and wait until it listens.

        Raises:
            TransportError: it did not start.
        """
        names = [component.name for component in bundle.manifest.components]
        plan = plan_here(bundle.manifest, config.engine_options, range(len(names)))
        self._server = PrivateServer(bundle.folder, plan, names, config.require_signature)
        try:
            self.address = self._server.wait_until_ready()
        except BaseException:
            self._server.close()
            raise
        self.process_id = self._server.process_id

    def close(self) -> None:
        """End it."""
        self._server.close()


class CascadeSystem:
    """A client, its way to a server, and what its results say of the time."""

    def __init__(
        self,
        choice: CascadeChoice,
        server: HostedServer | None,
        write: WriteFile | None = None,
        *,
        owns_server: bool = False,
        shaped: bool = False,
    ) -> None:
        """Open the way; the client loads with its first request.

        Args:
            choice: what to measure.
            server: the private one; None where one is named or none is needed.
            write: encodes and writes the last picture, a hop of its own; None leaves it out.
            owns_server: whether the server is closed with this.
            shaped: whether a link stands in between even where it does nothing, to be reshaped.
        """
        self._choice = choice
        self._server = server
        self._write = write
        self._stack = ExitStack()
        self._link: LinkChild | None = None
        if server is not None and owns_server:
            self._stack.callback(server.close)
        config = choice.config
        if choice.needs_server:
            address = config.server if server is None else server.address
            if address is not None and (shaped or not choice.link.is_unshaped):
                self._link = self._stack.enter_context(LinkChild(choice.link, address))
                # The proxy is on this machine, the server behind it as good as elsewhere: its
                # certificate names its own host, which the client goes on to check.
                name = host_of(address) if config.tls else ""
                config = replace(
                    config, server=self._link.address, picture_format="webp", tls_name=name
                )
            else:
                config = replace(config, server=address)
        else:
            config = replace(config, server=None)
        self._client = self._stack.enter_context(Client(choice.bundle, config))
        self._computed: dict[str, str] = {}

    @property
    def caching(self) -> tuple[str, ...]:
        """A server keeps the contexts that were uploaded, and a client remembers which."""
        choice = self._choice
        places = configured_placement(choice.bundle.manifest, choice.config).places
        mixed = len(set(places)) > 1
        return ("contexts",) if mixed or choice.config.is_auto else ()

    def reshape(self, link: LinkShape) -> None:
        """Another link for every later request; nothing where no server is needed.

        Raises:
            TransportError: the link's process is gone.
        """
        self._choice = replace(self._choice, link=link)
        if self._link is not None:
            self._link.reshape(link)

    def describe(self) -> Mapping[str, object]:
        """Bundle, cut, engines, and where the server is."""
        bundle, config = self._choice.bundle, self._choice.config
        server = "none" if not self._choice.needs_server else config.server or "private"
        return {
            "kind": "cascade",
            "bundle": bundle.manifest.name,
            "bundle_id": bundle.bundle_id,
            "components": [component.name for component in bundle.manifest.components],
            "cut": config.cut,
            "placement": config.placement if config.placed is None else dict(config.placed),
            "server": server,
            "tls": config.tls,
            "tls_name": self._client.config.tls_name,
            "link": self._choice.link.as_json(),
            "picture_format": self._client.config.picture_format,
            "computed": dict(self._computed),
        }

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """One picture."""

        def on_event(event: Event) -> None:
            if isinstance(event, StageFinished) and event.handoff.image is not None:
                on_picture(event.stage, event.handoff.image)

        result = self._client.generate(item.prompt, seed=item.seed, on_event=on_event)
        for name, backend in result.computed.items():
            self._computed[name] = f"{backend.engine} {backend.precision.value}"
        hops = hops_of(self._choice, result)
        if self._write is not None:
            begun = time.perf_counter()
            self._write(result.image)
            hops["write"] = time.perf_counter() - begun
        return PictureOutcome(
            hops=hops,
            bytes_up=result.bytes_up,
            bytes_down=result.bytes_down,
        )

    def processes(self) -> Mapping[str, int]:
        """This process, and the private server's."""
        found = {"client": os.getpid()}
        if self._server is not None and self._choice.needs_server:
            found["server"] = self._server.process_id
        return found

    def close(self) -> None:
        """End requests, then the link."""
        self._stack.close()


class OpenCascade:
    """Opens our system anew: with a private server of its own where none is named."""

    def __init__(self, choice: CascadeChoice, write: WriteFile | None = None) -> None:
        """Nothing is started.

        Args:
            choice: what to measure.
            write: see `CascadeSystem`.
        """
        self._choice = choice
        self._write = write

    def __call__(self) -> CascadeSystem:
        """The system; closing it ends its server too."""
        choice, server = self._choice, None
        if choice.needs_server and choice.config.server is None:
            server = HostedServer(choice.bundle, choice.config)
        return CascadeSystem(choice, server, self._write, owns_server=True)


def host_of(address: str) -> str:
    """The host that a certificate of the server at an address names, as gRPC takes it."""
    if address.startswith(UNIX_PREFIX):
        return "localhost"
    return split_address(address, "server")[0]


def hops_of(choice: CascadeChoice, result: Result) -> dict[str, float]:
    """A result's seconds by hop in the order of the work; zeros are left out.

    `upload` and `download` are the wire's time as the client saw it; `pack`, `server pack` and
    `unpack` are the parts of `serialise`.
    """
    components = choice.bundle.manifest.components
    rows = {spec.name: family_of(spec).time_rows(spec) for spec in components}
    sides = result.sides
    here = [row for name, own in rows.items() if sides[name] == HERE for row in own]
    there = [row for name, own in rows.items() if sides[name] != HERE for row in own]
    known = {**result.seconds, **result.packing}
    names = ["load", *here, "connect", "pack", "upload", "queue", *there]
    names += ["server pack", "download", "unpack"]
    return {name: known[name] for name in names if known.get(name, 0.0) > 0}


def written(folder: Path, suffix: str) -> WriteFile:
    """A function that writes pictures as `cascade generate -o` does, one file over the other."""
    path = folder / f"picture.{suffix}"

    def write(image: ImageU8) -> None:
        write_picture(path, encode_picture(image, format_of(path), {}))

    return write
