"""A request that was begun before, streamed again by its id alone.

Knows the bundle, so that every picture is checked; what was asked for, only the server knows.
"""

from collections.abc import Iterator

from cascade.boundary import longest_side
from cascade.bundle.manifest import Manifest
from cascade.errors import TransportError
from cascade.events import Accepted, Event, Progress, Resumed
from cascade.family import ComponentSpec
from cascade.request import Handoff
from runtime_client.deadline import Deadline
from runtime_client.remote.connection import Connection
from runtime_client.remote.event_decoder import EventDecoder
from runtime_client.remote.resumable_stream import ResumableStream
from runtime_client.remote.transfer_stats import TransferStats
from wire.generate_call import GenerateCall
from wire.generate_events import Done, EncodedPreview, StageResult
from wire.starts import ResumeStart


class ResumedRequest:
    """One request, picked up where the server has it."""

    def __init__(
        self, connection: Connection, manifest: Manifest, request_id: str, deadline: Deadline
    ) -> None:
        """Not asked yet.

        Args:
            connection: the way to the server.
            manifest: of the bundle that both sides hold.
            request_id: what to pick up.
            deadline: when the picking up must be over; the work has its own.
        """
        self._manifest = manifest
        self._request_id = request_id
        self._stats = TransferStats()
        self._stream = ResumableStream(
            connection,
            deadline,
            self._stats,
            largest_picture=longest_side(component.makes for component in manifest.components),
        )

    def events(self) -> Iterator[Event]:
        """Everything that is there and still to come; closing the iterator stops the streaming.

        Raises:
            UnknownRequest: the server knows nothing of that id (any more).
            CascadeError: what the work failed with.
        """
        try:
            peer = self._stream.handshake()
            call = GenerateCall(
                request_id=self._request_id,
                bundle_id=peer.bundle_id,
                start=ResumeStart(),
                joins_fragments=True,
            )
            decoder: EventDecoder | None = None
            for message in self._stream.messages(peer, call):
                named = (Progress, EncodedPreview, StageResult)
                # Where the request begins, the server's first event says; the results before it
                # were held, or are not ours.
                if decoder is None and isinstance(message, named):
                    components = self._from(message.stage)
                    decoder = EventDecoder(components, Handoff(), self._stats, may_end_early=True)
                if decoder is None and isinstance(message, Done):
                    raise TransportError("the server was done without a result")
                if decoder is not None:
                    event = decoder.event(message)
                    if event is not None:
                        yield event
                elif isinstance(message, Accepted | Resumed):
                    yield message
        finally:
            self._stream.cancel()

    def terminate(self) -> None:
        """Stop the streaming, from another thread; the work goes on."""
        self._stream.terminate()

    def _from(self, stage: str) -> tuple[ComponentSpec, ...]:
        """The components from the first one that the server named."""
        names = [component.name for component in self._manifest.components]
        if stage not in names:
            raise TransportError(f"the server speaks of {stage[:40]!r}, which is no component")
        return tuple(self._manifest.components[names.index(stage) :])
