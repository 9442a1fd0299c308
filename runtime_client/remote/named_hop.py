"""A remote stage whose errors say which components were placed on which server.

With one server that goes without saying; with several a caller must know which hop failed. Knows a
remote stage and its server's address; nothing of the request.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from cascade.errors import BundleMismatch, CascadeError, PlacementError
from cascade.events import Event
from cascade.request import GenerateRequest, Handoff
from runtime_client.remote.remote_stage import RemoteStage


class NamedHop:
    """A remote stage as one hop among others."""

    def __init__(self, stage: RemoteStage, address: str) -> None:
        """A hop.

        Args:
            stage: its components.
            address: of the server, as errors name it.
        """
        self._stage = stage
        self._address = address

    @property
    def names(self) -> tuple[str, ...]:
        """The components that the server runs."""
        return self._stage.names

    def require_fit(self) -> None:
        """See `RemoteStage.require_fit`; raises `PlacementError` for what the server lacks."""
        with naming_hop(self.names, self._address):
            self._stage.require_fit()

    def raise_failure(self) -> None:
        """See `RemoteStage.raise_failure`."""
        with naming_hop(self.names, self._address):
            self._stage.raise_failure()

    def prefetch(self, handoff: Handoff) -> None:
        """See `RemoteStage.prefetch`."""
        self._stage.prefetch(handoff)

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """See `RemoteStage.run`; every error names the hop."""
        with naming_hop(self.names, self._address):
            yield from self._stage.run(request, handoff)

    def terminate(self) -> None:
        """Cancel the calls in progress, from another thread."""
        self._stage.terminate()

    def close(self) -> None:
        """Cancel what is in progress."""
        self._stage.close()


@contextmanager
def naming_hop(names: tuple[str, ...], address: str) -> Iterator[None]:
    """Put components and server on whatever is raised inside.

    Args:
        names: of the components.
        address: of their server.
    """
    hop = f"{', '.join(names)} on {address}"
    try:
        yield
    except PlacementError:
        raise
    except BundleMismatch as exc:
        raise PlacementError(f"{hop}: {exc}", field="placement") from exc
    except CascadeError as exc:
        # A copy: a failed handshake is raised in every request that waits for it.
        named = copy.copy(exc)
        named.args = (f"{hop}: {exc}",)
        raise named from exc
