"""What health checks are told: about the whole, about the service, about each component.

Speaks grpc.health.v1. A component's name is `cascade.v1.CascadeService/NAME`. Knows what to show;
how it came about is known elsewhere.
"""

from collections.abc import Mapping
from typing import Any

from cascade.errors import MissingExtra
from wire.service import SERVICE_NAME

try:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
except ImportError as exc:
    raise MissingExtra(
        "the server's packages are not installed: pip install 'edge-cascade[server]'"
    ) from exc

HEALTH_SERVICE: str = health.SERVICE_NAME
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
GONE = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthBoard:
    """The health service of one server; used on its event loop."""

    def __init__(self, server: Any) -> None:
        """Not serving.

        Args:
            server: the gRPC server that answers the checks.
        """
        self._servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        self._shown: set[str] = set()

    async def show(self, stages: Mapping[str, bool]) -> None:
        """Show the components and whether each works; the whole works if all of them do.

        Args:
            stages: every hosted component by name; those shown before and not named are gone.
        """
        whole = SERVING if all(stages.values()) else NOT_SERVING
        for name in ("", SERVICE_NAME):
            await self._servicer.set(name, whole)
        # A bundle with other components took over; a watcher of the old one is told.
        for name in self._shown - set(stages):
            await self._servicer.set(f"{SERVICE_NAME}/{name}", GONE)
        for name, works in stages.items():
            await self._servicer.set(f"{SERVICE_NAME}/{name}", SERVING if works else NOT_SERVING)
        self._shown = set(stages)

    async def leave(self) -> None:
        """Not serving, for good."""
        await self._servicer.enter_graceful_shutdown()
