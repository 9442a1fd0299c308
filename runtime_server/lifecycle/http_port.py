"""The HTTP door of a server that is configured to have one.

Its packages are imported here and only then: other servers need not have them. Knows how the parts
are put together; not what they do.
"""

from typing import TYPE_CHECKING

from runtime_server.app.server import CascadeServer
from runtime_server.config.config import ServerConfig
from runtime_server.core import Core
from runtime_server.telemetry.call_tracer import CallTracer
from runtime_server.telemetry.server_events import Emit

if TYPE_CHECKING:
    from runtime_server.http_door.listener import HttpListener


def check_http_packages(config: ServerConfig) -> None:
    """Raise `MissingExtra` where a door is configured and its packages are not installed."""
    if config.http:
        import runtime_server.http_door.listener  # noqa: F401, PLC0415


def make_http_port(
    config: ServerConfig, server: CascadeServer, emit: Emit, tracer: CallTracer
) -> "HttpListener | None":
    """A door that does not listen yet; None where none is configured.

    Args:
        config: of the server.
        server: answers the calls that come in by the door.
        emit: where the events of the door go.
        tracer: begins the spans of its calls.

    Raises:
        MissingExtra: its packages are not installed.
        InvalidRequest: certificate and key cannot be read or do not belong together.
    """
    if not config.http:
        return None
    from runtime_server.http_door.door import HttpDoor  # noqa: PLC0415
    from runtime_server.http_door.listener import HttpListener  # noqa: PLC0415

    def present() -> Core:
        return server.generations.present.core

    door = HttpDoor(server.service, server.authentication, present, emit, tracer)
    return HttpListener(config, door)
