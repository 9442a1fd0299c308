"""A request that was begun before, listened to again by its id alone.

Knows the bundle, so that every picture is checked; what was asked for, only the server knows.
"""

from collections.abc import Iterator

from cascade.boundary import longest_side
from cascade.bundle.manifest import Manifest
from cascade.errors import TransportError
from cascade.events import Accepted, Event, Progress, Resumed
from cascade.family import ComponentSpec
from cascade.request import Handoff
from runtime_client.remote.connection import Connection
from runtime_client.remote.deadline import Deadline
from runtime_client.remote.event_decoder import Incoming
from runtime_client.remote.resumable_stream import ResumableStream
from runtime_client.remote.transfer_stats import Traffic
from wire.generate_call import GenerateCall, encode_generate
from wire.generate_events import Done, EncodedPreview, StageResult
from wire.starts import ResumeStart


class FetchedRun:
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
        self._traffic = Traffic()
        self._talk = ResumableStream(connection, deadline, self._traffic, request_id)
        self._talk.resumes = True
        self._talk.largest_picture = longest_side(c.makes for c in manifest.components)

    def events(self) -> Iterator[Event]:
        """Everything that is there and still to come; closing the iterator stops the listening.

        Raises:
            UnknownRequest: the server knows nothing of that id (any more).
            CascadeError: what the work failed with.
        """
        try:
            peer = self._talk.greet()
            incoming: Incoming | None = None
            for message in self._talk.messages(lambda: self._talk.send(peer, self._message())):
                named = (Progress, EncodedPreview, StageResult)
                if incoming is None and isinstance(message, named):
                    components = self._from(message.stage)
                    incoming = Incoming(components, Handoff(), self._traffic, may_end_early=True)
                if incoming is None and isinstance(message, Done):
                    raise TransportError("the server was done without a result")
                if incoming is not None:
                    event = incoming.event(message)
                    if event is not None:
                        yield event
                elif isinstance(message, Accepted | Resumed):
                    yield message
        finally:
            self._talk.cancel_call()

    def _from(self, stage: str) -> tuple[ComponentSpec, ...]:
        """The components from the one that was heard of first."""
        names = [component.name for component in self._manifest.components]
        if stage not in names:
            raise TransportError(f"the server speaks of {stage[:40]!r}, which is no component")
        return tuple(self._manifest.components[names.index(stage) :])

    def _message(self) -> bytes:
        """The question for it; what is here already is left out."""
        return encode_generate(
            GenerateCall(
                request_id=self._request_id,
                bundle_id=self._manifest.bundle_id,
                start=ResumeStart(),
                joins_fragments=True,
                results_held=self._talk.held,
            )
        )
