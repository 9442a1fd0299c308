"""What the client says to a server and hears back, as values.

Only what this client needs of each message, with the names of the vocabulary. Pictures are still
encoded. Knows no bytes of the wire; `wire` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cascade.codecs.image import ImageFormat
from cascade.events import Accepted, Backend, Progress
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.types import ContextF16


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """What a server says of itself, as far as this client needs it."""

    wire_version: int
    software_version: str
    bundle_id: str
    bundle_name: str
    components: tuple[str, ...]
    precisions: Mapping[str, Precision]
    """What each component computes in; one whose precision is not known here is left out."""
    image_formats: tuple[ImageFormat, ...]
    context_lifetime_s: float
    max_open_requests: int = 0
    """Requests of one caller that fit in at once, as far as the server's limits say; 0 unknown."""
    max_joined_bytes: int = 0
    """Largest request that may go up in fragments; 0 where the server knows none."""


@dataclass(frozen=True, slots=True)
class StoredContext:
    """A context that the server holds."""

    handle: bytes
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture as a message carries it."""

    width: int
    height: int
    format: ImageFormat
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where the server starts: words, a context (its handle or itself), or those and a picture."""

    prompt: str | None = None
    handle: bytes | None = None
    context: ContextF16 | None = None
    image: EncodedImage | None = None
    resume: bool = False
    """Begin nothing: listen to what the request id names already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DisconnectPolicy:
    """What is to become of the work when nobody listens."""

    detach: bool = False
    """It goes on to its end."""
    linger_s: float = 0.0
    """It goes on for so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateCall:
    """Everything that one call of Generate says."""

    request_id: str
    bundle_id: str
    start: Start
    request: GenerateRequest
    last_stage: str
    format: ImageFormat
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """What components must compute in."""
    presence: DisconnectPolicy = field(default_factory=DisconnectPolicy)
    results_held: int = 0
    """Results that are here already."""


@dataclass(frozen=True, slots=True)
class PackedPreview:
    """A preview, not decoded yet."""

    stage: str
    step: int
    image: EncodedImage


@dataclass(frozen=True, slots=True)
class StageResult:
    """A component's result, its picture not decoded yet."""

    stage: str
    image: EncodedImage | None = None
    context: ContextF16 | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    computed: Backend | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a stream: seconds per hop on the server."""

    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of a message that is too large for one."""

    data: bytes
    is_last: bool


ServerEvent: TypeAlias = Accepted | Progress | PackedPreview | StageResult | Done
