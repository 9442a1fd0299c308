"""What a client asked for, as plain values: messages of the wire, parsed and not yet checked.

Knows the shape of a call; neither protobuf nor what the bundle allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cascade.codecs.image import ImageFormat
from cascade.codecs.tensor import PackedTensor
from cascade.diffusion.request_options import DiffusionOptions
from cascade.precision import Precision

StartKind = Literal["prompt", "context", "image", "resume"]

ANONYMOUS = "anonymous"
"""The identity of callers who need not say who they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An image as a message carries it."""

    width: int
    height: int
    format: ImageFormat
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextReference:
    """Embeddings by name or by value; both None when the message holds neither."""

    handle: bytes | None = None
    tensor: PackedTensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PutContextCall:
    """Embeddings to be kept."""

    bundle_id: str
    context: PackedTensor


@dataclass(frozen=True, slots=True)
class Beginning:
    """As much of a request for a picture as decides whether there is room for it."""

    request_id: str
    start: StartKind | None
    """Which starting point was given; None when the client forgot it."""
    image_width: int
    """Of the picture that it starts from; 0 where it starts from none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateCall:
    """One picture asked for over the wire."""

    request_id: str
    bundle_id: str
    start: StartKind | None
    """Which starting point was given; None when the client forgot it."""
    prompt: str = ""
    context: ContextReference = ContextReference()
    image: EncodedImage | None = None
    seed: int = 0
    image_index: int = 0
    last_stage: str = ""
    options: Mapping[str, DiffusionOptions]
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """What components must compute in, as far as the client cares."""
    format: ImageFormat
    preview_every: int = 0
    joins_fragments: bool = False
    """Whether the caller joins what is larger than a message."""
    detach: bool = False
    """Work on to the end when nobody listens any more."""
    linger_s: float = 0.0
    """Work on for so long when nobody listens any more."""
    results_held: int = 0
    """Results that the caller has already, counted from the first."""
