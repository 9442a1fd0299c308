"""What a finished request comes to: the pictures, and where the time went.

Collected from events alone. Knows no stage.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cascade.errors import StageError
from cascade.events import Backend, Event, FellBack, Preview, StageFinished, Transferred
from cascade.types import ImageU8
from runtime_client.config import LOSSY_FORMATS

HERE, PRIVATE, SERVER = "here", "private server", "server"
"""Where a component ran: in this process, beside it, or on a server that was named."""
if TYPE_CHECKING:
    from cascade.family import PlanWarning


@dataclass(frozen=True, kw_only=True, slots=True)
class HopAccount:
    """Components in a row that ran in one place, and what that took."""

    components: tuple[str, ...]
    side: str
    """`here`, `private server` or `server`."""
    server: str
    """Address of the server; empty for the other two."""
    seconds: Mapping[str, float]
    """By component, and `connect`, `serialise`, `upload`, `queue` and `download` of a server."""
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One finished picture."""

    image: ImageU8
    """The last stage's, `[height, width, 3]` uint8 RGB."""
    images: Mapping[str, ImageU8]
    """Every stage's picture by its name, in order."""
    seconds: Mapping[str, float]
    """By hop: `tokenise`, `encode`, each stage, `connect`, `serialise`, `upload`, `queue`,
    `download`, `load` (code and stages here), and `total`."""
    bytes_up: int
    bytes_down: int
    bundle_id: str
    seed: int | None
    """None where only the server knows: of a picture that was fetched."""
    image_index: int | None
    cut: int | None
    """Components that were to run here; None where those are not the first ones."""
    fell_back: bool
    """Whether a server was gone and what it was to run ran here."""
    computed: Mapping[str, Backend]
    """By component: the engine that ran it and in which precision, as far as that is known."""
    request_id: str
    """The run's name, here and in the log of a server."""
    sides: Mapping[str, str]
    """By component: `here`, `private server` or `server`."""
    server_version: str
    """Of a server's software; empty where none was asked."""
    hops: tuple[HopAccount, ...] = ()
    """In order; none where only the server knows: of a picture that was fetched."""
    packing: Mapping[str, float] = field(default_factory=dict)
    """What `serialise` consists of, see `Transferred.packing`."""
    plan: Mapping[str, Any] | None = None
    """How the placement was chosen, as `cascade plan --json` prints it; None where it was given."""
    engine_seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage: seconds of its own that its engines ran; the rest is the host's. None is there of a
    server from before it said so."""
    sent_as: str = ""
    """The format in which a server sent the last picture, where it loses pixels; else empty."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """By stage, the format in which a server sent its picture; none of what was made here."""
    preview_formats: Mapping[str, str] = field(default_factory=dict)
    """The same of its previews."""
    warnings: "tuple[PlanWarning, ...]" = ()
    """Runs that started in the middle of their schedule: see `cascade.diffusion.run_start`."""


@dataclass(slots=True)
class Collected:
    """Events taken in so far."""

    request_id: str = ""
    images: dict[str, ImageU8] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    packing: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes_up: int = 0
    bytes_down: int = 0
    fell_back: bool = False
    spent: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """By component, where its own time went."""
    transfers: dict[str, Transferred] = field(default_factory=dict)
    """What a hop on a server cost, by its last component."""
    computed: dict[str, Backend] = field(default_factory=dict)
    engine_seconds: dict[str, float] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    preview_formats: dict[str, str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, StageFinished):
            self._finish(event)
        elif isinstance(event, Preview) and event.format:
            self.preview_formats[event.stage] = event.format
        elif isinstance(event, Transferred):
            self._spend(event.seconds)
            for name, spent in event.packing.items():
                self.packing[name] += spent
            self.bytes_up += event.bytes_up
            self.bytes_down += event.bytes_down
            if self.spent:
                # Comes last of its hop.
                self.transfers[list(self.spent)[-1]] = event
        elif isinstance(event, FellBack):
            self.fell_back = True

    def account(self, components: tuple[str, ...], side: str, server: str) -> HopAccount:
        """What a hop took.

        Args:
            components: those of them that ran are counted.
            side: where they ran.
            server: its address, if it has one.
        """
        cost = self.transfers.get(components[-1], Transferred(0, 0))
        seconds = dict(cost.seconds)
        for name in components:
            own = dict(self.spent.get(name, {}))
            queued = own.pop("queue", 0.0)
            if queued:
                seconds["queue"] = seconds.get("queue", 0.0) + queued
            seconds[name] = sum(own.values())
        return HopAccount(
            components=components,
            side=side,
            server=server,
            seconds=seconds,
            bytes_up=cost.bytes_up,
            bytes_down=cost.bytes_down,
        )

    def _finish(self, event: StageFinished) -> None:
        """Take in the end of a component."""
        self._spend(event.seconds)
        self.spent[event.stage] = event.seconds
        if event.engine_s:
            self.engine_seconds[event.stage] = event.engine_s
        if event.computed is not None:
            self.computed[event.stage] = event.computed
        if event.handoff.image is not None:
            self.images[event.stage] = event.handoff.image
        if event.format:
            self.formats[event.stage] = event.format

    def _spend(self, seconds: Mapping[str, float]) -> None:
        for name, spent in seconds.items():
            self.seconds[name] += spent

    @property
    def sent_as(self) -> str:
        """The format in which the last picture was sent, where that loses pixels; else empty."""
        found = self.formats.get(next(reversed(self.images), ""), "")
        return found if found in LOSSY_FORMATS else ""

    @property
    def image(self) -> ImageU8:
        """The last picture.

        Raises:
            StageError: no stage has made one.
        """
        if not self.images:
            raise StageError("the request ended without a picture")
        return list(self.images.values())[-1]
