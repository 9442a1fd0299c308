"""The remote stage: components in a row on one server, behind the same face as a local one.

`generate` cannot tell it apart. Learns of the context early and uploads it while the device is
still denoising. Knows a connection; not what ran before it.
"""

import threading
from collections.abc import Iterator, Mapping

from cascade.bundle.manifest import Manifest
from cascade.events import Event
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from runtime_client.deadline import Deadline
from runtime_client.remote.connection import Connection
from runtime_client.remote.remote_run import RemoteRun, RemoteWork
from runtime_client.remote.request_identity import RequestIdentity


class RemoteStage:
    """Components `first` to `last` of a bundle, run by a server. Runs may overlap."""

    def __init__(
        self,
        connection: Connection,
        manifest: Manifest,
        positions: range,
        deadline: Deadline,
        precisions: Mapping[str, Precision] | None = None,
        identity: RequestIdentity | None = None,
    ) -> None:
        """A stage.

        Args:
            connection: the way to the server; stays open when the stage is closed.
            manifest: of the bundle that both sides hold.
            positions: the components to run, in order.
            deadline: when every run must be over.
            precisions: what components must compute in; those not named are the server's choice.
            identity: how the runs are known to the server; by an id of their own each when None.
        """
        components = tuple(manifest.components[p] for p in positions)
        names = {component.name for component in components}
        asked = {n: p for n, p in (precisions or {}).items() if n in names}
        self._work = RemoteWork(
            connection, components, deadline, asked, identity or RequestIdentity()
        )
        self._needs_context = positions.start > 0
        self._lock = threading.Lock()
        self._runs: list[RemoteRun] = []

    @property
    def names(self) -> tuple[str, ...]:
        """The components that the server runs."""
        return tuple(component.name for component in self._work.components)

    def require_fit(self) -> None:
        """Wait for the server, and refuse it now if it is none for this work.

        Raises:
            BundleMismatch: as `run`, and whatever else it would find before it sends anything.
            CascadeError: see `run`.
        """
        self._work.require_fit(self._work.connection.link.peer(self._work.deadline))

    def raise_failure(self) -> None:
        """Raise what the handshake failed with, if it has failed; never waits."""
        self._work.connection.link.raise_failure()

    def prefetch(self, handoff: Handoff) -> None:
        """Start the handshake, and the upload of the context once there is one."""
        self._work.connection.link.begin_handshake()
        if self._needs_context and handoff.context is not None:
            self._work.connection.contexts.begin(handoff.context)

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Run the components on the server; see `Stage.run`.

        Yields `Accepted`, then `Progress`, `Preview` and `StageFinished` of each component, and
        `Transferred` last, which also carries the time in the server's queue; `Resumed` whenever
        the connection broke and was made again.

        Raises:
            BundleMismatch: the server holds another bundle, or not every component.
            PrecisionMismatch: the server computes a component in another precision than asked.
            VersionMismatch: the server speaks another version of the wire.
            TransportError: the server cannot be reached, or went away.
        """
        run = RemoteRun(self._work, request, handoff)
        with self._lock:
            self._runs.append(run)
        try:
            yield from run.events()
        finally:
            if self._work.connection.owner.is_this:
                with self._lock:
                    self._runs.remove(run)

    def terminate(self) -> None:
        """Cancel the calls in progress, from another thread; harmless when idle."""
        with self._lock:
            runs = list(self._runs)
        for run in runs:
            run.terminate()

    def close(self) -> None:
        """Cancel what is in progress."""
        self.terminate()
