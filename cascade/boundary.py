"""What may cross a component boundary, as values of the manifest: a component's input and output.

A component starts from some of them and makes one; whether two components fit is a comparison of
values. Nothing at all is a start from noise. What really crosses is a `Handoff`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from cascade.graph_spec import DtypeName


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """Words, as a caller typed them."""

    kind: Literal["prompt"] = "prompt"

    def __str__(self) -> str:
        """For errors."""
        return "a prompt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A class by its number, 0 to `classes - 1`."""

    kind: Literal["label"] = "label"
    classes: int
    """How many there are."""

    def __str__(self) -> str:
        """For errors."""
        return f"a label of {self.classes} classes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Text embeddings `[tokens, width]` float16, of any number of tokens."""

    kind: Literal["context"] = "context"
    width: int
    """Numbers of one token."""

    def __str__(self) -> str:
        """For errors."""
        return f"embeddings of width {self.width}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A picture `[height, width, channels]` uint8 of the values 0 to `levels - 1`."""

    kind: Literal["image"] = "image"
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    channels: int = 3
    """3 is RGB."""
    levels: int = 256
    """Values of a channel."""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def size_bytes(self) -> int:
        """Of the raw pixels."""
        return self.pixels * self.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its array: height, width, channels."""
        return self.height, self.width, self.channels

    def __str__(self) -> str:
        """For errors."""
        kinds = {3: "", 1: " grey"}
        colours = kinds.get(self.channels, f" of {self.channels} channels")
        levels = "" if self.levels == 256 else f" of {self.levels} levels"
        return f"a picture of {self.width}x{self.height}{colours}{levels}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """A latent: finite numbers of a fixed shape, which cross a boundary bit for bit."""

    kind: Literal["tensor"] = "tensor"
    shape: tuple[int, ...]
    """`[channels, height, width]`."""
    dtype: DtypeName
    """Of its values: float32, or float16, to which the component that makes it rounds them."""

    @property
    def channels(self) -> int:
        """The first axis."""
        return self.shape[0]

    @property
    def height(self) -> int:
        """The second axis."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """The third axis."""
        return self.shape[2]

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def size_bytes(self) -> int:
        """Of its values."""
        return self.pixels * self.channels * CARRIED_TENSORS[self.dtype]

    def __str__(self) -> str:
        """For errors."""
        return f"a tensor {list(self.shape)} {self.dtype}"


CARRIED_CHANNELS = 3
"""Of a picture that crosses a boundary: every codec here knows RGB alone."""
CARRIED_TENSORS = {"float16": 2, "float32": 4}
"""Bytes of a value of each dtype that a tensor may have."""
TENSOR_AXES = 3
"""Of a tensor: channels, height, width."""

BoundaryValue = Prompt | Label | Context | Image | Tensor
Value = TypeVar("Value", Prompt, Label, Context, Image, Tensor)


def why_not_carried(value: BoundaryValue) -> str:
    """Why nothing takes a value across a boundary; empty for what crosses every one.

    A `Handoff` and the wire have a place for each kind: pictures travel as RGB, tensors as floats.
    """
    if isinstance(value, Tensor):
        if len(value.shape) != TENSOR_AXES or min(value.shape) < 1:
            return "tensors of [channels, height, width] are carried, each at least 1"
        if value.dtype not in CARRIED_TENSORS:
            return f"tensors of {' and '.join(CARRIED_TENSORS)} are carried"
    if isinstance(value, Image) and value.channels != CARRIED_CHANNELS:
        return f"pictures of {CARRIED_CHANNELS} channels are carried, this one has {value.channels}"
    return ""


def value_of(kind: type[Value], values: Iterable[BoundaryValue]) -> Value | None:
    """The value of a kind among others; None where there is none."""
    # The first: a chain never offers a component two values of one kind.
    return next((value for value in values if isinstance(value, kind)), None)


def in_words(values: Iterable[BoundaryValue]) -> str:
    """`embeddings of width 512 and a picture of 64x64`, or `noise alone`."""
    return " and ".join(map(str, values)) or "noise alone"


def longest_side(values: Iterable[BoundaryValue]) -> int:
    """Pixels of the longest side of any picture among values; 0 where there is none."""
    images = [value for value in values if isinstance(value, Image)]
    return max((max(image.width, image.height) for image in images), default=0)
