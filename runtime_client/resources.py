"""What a client keeps open between requests: a private server, a connection, stages here.

Each is made on first use and shared by all requests, from any thread. What only a request needs
(gRPC, ONNX Runtime) is imported by the first one: importing the package stays quick, and a private
server loads meanwhile.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.bundle.bundle import Bundle
from cascade.errors import Cancelled
from cascade.stage import Stage
from cascade.tuning.plan import EnginePlan, plan_here
from runtime_client.config import ClientConfig
from runtime_client.deadline import Deadline

if TYPE_CHECKING:
    from runtime_client.local.local_stages import LocalStages
    from runtime_client.local.private_server import PrivateServer
    from runtime_client.remote.connection import Connection


class ClientResources:
    """Opened on demand, closed together."""

    def __init__(self, bundle: Bundle, config: ClientConfig) -> None:
        """Nothing is started or loaded yet.

        Args:
            bundle: what to work with.
            config: how.
        """
        self._bundle = bundle
        self._config = config
        # Guards the three below and whether they are closed; held while one of them is made, so
        # that two requests never start two servers.
        self._lock = threading.Lock()
        self._private: PrivateServer | None = None
        self._connection: Connection | None = None
        self._local: LocalStages | None = None
        self._closed = False

    def local_stages(self, positions: Sequence[int], deadline: Deadline) -> list[Stage]:
        """Components as stages on this machine, for one request."""
        from runtime_client.local.local_stages import LocalStages  # noqa: PLC0415

        with self._lock:
            self._refuse_when_closed()
            if self._local is None:
                self._local = LocalStages(self._bundle, self._config.engine_options)
            local = self._local
        return [local.at(position, deadline) for position in positions]

    def connection(self) -> "Connection":
        """To the server of the configuration, or to a private one that is started where needed."""
        private = self._started_private()
        with self._lock:
            self._refuse_when_closed()
            if self._connection is None:
                self._connection = connect(self._bundle, self._config, private)
            return self._connection

    @property
    def server_version(self) -> str:
        """Of the server's software; empty where none was asked."""
        connection = self._connection
        return connection.link.software_version if connection else ""

    def raise_handshake_failure(self) -> None:
        """Raise what the handshake failed with, if it has failed; never waits."""
        connection = self._connection
        if connection is not None:
            connection.link.raise_failure()

    def close(self) -> None:
        """End what is in progress, the private server included, and release everything."""
        with self._lock:
            self._closed = True
            private, connection, local = self._private, self._connection, self._local
            self._private = self._connection = self._local = None
        end_server(private, connection)
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
            dead, connection = self._private, self._connection
            self._private = PrivateServer(
                self._bundle.folder,
                self._private_plan(),
                self._config.cut,
                self._config.require_signature,
            )
            self._connection = None
            private = self._private
        end_server(dead, connection)
        return private

    def _private_plan(self) -> EnginePlan:
        """What a private server is told: the very choices that this process would make."""
        manifest = self._bundle.manifest
        positions = range(self._config.cut, len(manifest.components))
        return plan_here(manifest, self._config.engine_options, positions)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Cancelled("the client was closed")


def connect(bundle: Bundle, config: ClientConfig, private: "PrivateServer | None") -> "Connection":
    """A connection to the server of a configuration, or to a private one; nothing is sent yet."""
    from runtime_client.credentials import BearerToken  # noqa: PLC0415
    from runtime_client.remote.connection import Connection  # noqa: PLC0415
    from runtime_client.remote.server_link import NamedServer, ServerLink  # noqa: PLC0415
    from runtime_client.remote.transport import Keepalive, Security  # noqa: PLC0415

    security = Security(
        tls=config.tls,
        ca_file=config.ca_file,
        client_cert=config.client_cert,
        client_key=config.client_key,
        token=BearerToken(token=config.token, file=config.token_file),
        keepalive=Keepalive.within(config.dead_link_s),
    )
    link = ServerLink(
        private or NamedServer(config.server or ""),
        security,
        bundle.manifest.ids,
        config.timeout_s,
        # A private server that is gone does not come back.
        0.0 if private is not None else config.linger_s,
        config.wait_s,
    )
    return Connection(link, config.picture_format)


def end_server(private: "PrivateServer | None", connection: "Connection | None") -> None:
    """Cancel the calls first: a server that is asked to end would wait for them."""
    if private is not None:
        private.stop_waiting()
    if connection is not None:
        connection.close()
    if private is not None:
        private.close()
