"""What a client keeps open between requests: a private server, a connection, stages here.

Each is made on first use and shared by all requests, from any thread. What only a request needs
(gRPC, ONNX Runtime) is imported by the first one: importing the package stays quick, and a private
server loads meanwhile.
"""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cascade.bundle.bundle import Bundle
from cascade.engines.kinds import CODE
from cascade.errors import Cancelled, CascadeError
from cascade.stage import Stage
from cascade.system.early_child import load_early
from cascade.tuning.plan import EnginePlan, plan_here
from runtime_client.config import ClientConfig
from runtime_client.context_memory import ContextMemory
from runtime_client.deadline import Deadline
from runtime_client.placement import THERE, Placement

if TYPE_CHECKING:
    from runtime_client.local.local_stages import LocalStages
    from runtime_client.local.private_server import PrivateServer
    from runtime_client.remote.connection import Connection
    from runtime_client.remote.transport import Security


class ClientResources:
    """Opened on demand, closed together."""

    def __init__(self, bundle: Bundle, config: ClientConfig, placement: Placement) -> None:
        """Nothing is started or loaded yet.

        Args:
            bundle: what to work with.
            config: how.
            placement: where its components run.
        """
        self._bundle = bundle
        self._config = config
        self._placement = placement
        self.contexts = ContextMemory()
        """What encoders elsewhere made."""
        # Guards the three below and whether they are closed; held while one of them is made, so
        # that two requests never start two servers.
        self._lock = threading.Lock()
        self._private: PrivateServer | None = None
        self._connections: dict[str, Connection] = {}
        self._local: LocalStages | None = None
        self._closed = False

    def local_stages(self, positions: Sequence[int], deadline: Deadline) -> list[Stage]:
        """Components as stages on this machine, for one request."""
        local = self._local_stages()
        local.open(positions)
        return [local.at(position, deadline) for position in positions]

    def open_beside(self, positions: Sequence[int]) -> None:
        """Open stages here on a thread of its own, so that other loading goes on; returns at once.

        What is wrong with them shows when they are needed.
        """

        def open_them() -> None:
            with contextlib.suppress(CascadeError):
                self._local_stages().open(positions)

        threading.Thread(target=open_them, name="open here", daemon=True).start()

    def _local_stages(self) -> "LocalStages":
        """The stages here, none of which need be open."""
        from runtime_client.local.local_stages import LocalStages  # noqa: PLC0415

        with self._lock:
            self._refuse_when_closed()
            if self._local is None:
                self._local = LocalStages(self._bundle, self._config.engine_options)
            return self._local

    def start(self, place: str) -> None:
        """Start the private server, where one is meant; it loads while this process does."""
        if place == THERE:
            self._started_private()

    def load_early(self) -> bool:
        """Let a private server whose interpreter loads already load the code of its engines.

        Returns:
            Whether there is one; it then waits for its command, see `start`.
        """
        if self._config.server is not None:
            return False
        names = [self._bundle.manifest.components[at].name for at in self._placement.at(THERE)]
        plan = self._private_plan(self._placement.at(THERE))
        return load_early(sorted({CODE[plan.of(name).kind] for name in names}))

    @property
    def load_s(self) -> Mapping[int, float]:
        """Seconds that each component here took to open, by position; none that is not open."""
        with self._lock:
            local = self._local
        return {} if local is None else local.load_s

    def connection(self, place: str = THERE) -> "Connection":
        """To a server; a private one is started where needed.

        Args:
            place: its address, or `there` for the one of the configuration.
        """
        private = self._started_private() if place == THERE else None
        with self._lock:
            self._refuse_when_closed()
            if place not in self._connections:
                server = self._config.server if place == THERE else place
                self._connections[place] = connect(self._bundle, self._config, private or server)
            return self._connections[place]

    @property
    def server_version(self) -> str:
        """Of the software of the first server that was asked; empty where none was."""
        with self._lock:
            connections = list(self._connections.values())
        return next((c.link.software_version for c in connections if c.link.software_version), "")

    def close(self) -> None:
        """End what is in progress, the private server included, and release everything."""
        with self._lock:
            self._closed = True
            private, local = self._private, self._local
            connections = list(self._connections.values())
            self._private = self._local = None
            self._connections.clear()
        end_servers(private, connections)
        if local is not None:
            local.close()

    def _started_private(self) -> "PrivateServer | None":
        """The private server, started if it is not running; None where one is named."""
        if self._config.server is not None:
            return None
        from runtime_client.local.private_server import PrivateServer  # noqa: PLC0415

        with self._lock:
            self._refuse_when_closed()
            if self._private is not None and self._private.is_alive:
                return self._private
            dead, connection = self._private, self._connections.pop(THERE, None)
            # Of a sparse bundle what is there: a request that needs more was refused before.
            hosted = [at for at in self._placement.at(THERE) if self._bundle.has(at)]
            self._private = PrivateServer(
                self._bundle.folder,
                self._private_plan(hosted),
                [self._bundle.manifest.components[at].name for at in hosted],
                self._config.require_signature,
            )
            private = self._private
        end_servers(dead, [] if connection is None else [connection])
        return private

    def _private_plan(self, hosted: Sequence[int]) -> EnginePlan:
        """What a private server is told: the very choices that this process would make."""
        return plan_here(self._bundle.manifest, self._config.engine_options, hosted)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Cancelled("the client was closed")


def connect(
    bundle: Bundle, config: ClientConfig, server: "PrivateServer | str | None"
) -> "Connection":
    """A connection to one server; nothing is sent yet.

    Args:
        bundle: that both sides hold.
        config: security and patience.
        server: a private one, or the address of another.
    """
    from runtime_client.remote.connection import Connection  # noqa: PLC0415
    from runtime_client.remote.server_link import NamedServer, ServerLink  # noqa: PLC0415

    security = security_of(config)
    is_named = server is None or isinstance(server, str)
    link = ServerLink(
        NamedServer(server or "") if server is None or isinstance(server, str) else server,
        security,
        bundle.manifest.ids,
        config.timeout_s,
        # A private server that is gone does not come back.
        config.linger_s if is_named else 0.0,
        config.wait_s,
    )
    return Connection(link, config.picture_format)


def security_of(config: ClientConfig) -> "Security":
    """How connections of a configuration are protected and watched."""
    from runtime_client.credentials import BearerToken  # noqa: PLC0415
    from runtime_client.remote.transport import Keepalive, Security  # noqa: PLC0415

    return Security(
        tls=config.tls,
        ca_file=config.ca_file,
        client_cert=config.client_cert,
        client_key=config.client_key,
        tls_name=config.tls_name,
        token=BearerToken(token=config.token, file=config.token_file),
        keepalive=Keepalive.within(config.dead_link_s),
    )


def end_servers(private: "PrivateServer | None", connections: Sequence["Connection"]) -> None:
    """Cancel the calls first: a server that is asked to end would wait for them."""
    if private is not None:
        private.stop_waiting()
    for connection in connections:
        connection.close()
    if private is not None:
        private.close()
