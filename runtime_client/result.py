"""What a finished request comes to: the pictures, and where the time went.

Collected from events alone. Knows no stage.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cascade.errors import StageError
from cascade.events import Backend, Event, FellBack, StageFinished, Transferred
from cascade.types import ImageU8

HERE, PRIVATE, SERVER = "here", "private server", "server"
"""Where a component ran: in this process, beside it, or on a server that was named."""
if TYPE_CHECKING:
    from cascade.family import PlanWarning


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
    cut: int
    fell_back: bool
    """Whether the server was gone and the rest ran here."""
    computed: Mapping[str, Backend]
    """By component: the engine that ran it and in which precision, as far as that is known."""
    request_id: str
    """The run's name, here and in the log of a server."""
    sides: Mapping[str, str]
    """By component: `here`, `private server` or `server`."""
    server_version: str
    """Of a server's software; empty where none was asked."""
    packing: Mapping[str, float] = field(default_factory=dict)
    """What `serialise` consists of, see `Transferred.packing`."""
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
    fell_back_at: str = ""
    """The first component that ran here for want of the server."""
    computed: dict[str, Backend] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, StageFinished):
            self._spend(event.seconds)
            if event.computed is not None:
                self.computed[event.stage] = event.computed
            if event.handoff.image is not None:
                self.images[event.stage] = event.handoff.image
        elif isinstance(event, Transferred):
            self._spend(event.seconds)
            for name, spent in event.packing.items():
                self.packing[name] += spent
            self.bytes_up += event.bytes_up
            self.bytes_down += event.bytes_down
        elif isinstance(event, FellBack):
            self.fell_back = True
            self.fell_back_at = event.stage

    def _spend(self, seconds: Mapping[str, float]) -> None:
        for name, spent in seconds.items():
            self.seconds[name] += spent

    @property
    def image(self) -> ImageU8:
        """The last picture.

        Raises:
            StageError: no stage has made one.
        """
        if not self.images:
            raise StageError("the request ended without a picture")
        return list(self.images.values())[-1]
