"""What an engine is built for, as values: precision, target, ranges of the free axes, memory.

Checked here as a whole, so that a wrong choice is refused before a minute of building. Knows
numbers and names; not TensorRT.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cascade.errors import EngineError
from cascade.precision import Precision

STRIDE = 32
"""Free heights and widths are multiples of this; see `export/graphs.py`."""

SMALLEST, MAX_SIZE = 8, 4096
MAX_BATCH = 256
MAX_TOKENS = 512

LOWEST_CAPABILITY = {
    Precision.FP32: (7, 5),
    Precision.FP16: (7, 5),
    Precision.INT8: (7, 5),
    Precision.BF16: (8, 0),
    Precision.FP8: (8, 9),
}
"""The first processor generation that multiplies in this format; TensorRT reads no blocks."""


@dataclass(frozen=True, order=True, slots=True)
class Capability:
    """A compute capability, such as 8.6."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def member(self) -> str:
        """The library's name of it."""
        return f"SM{self.major}{self.minor}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisRange:
    """Smallest, most frequent and largest size of a free axis."""

    smallest: int
    opt: int
    largest: int

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.opt <= self.largest:
            raise EngineError(f"not a range of sizes: {self}")

    def __str__(self) -> str:
        return f"{self.smallest}..{self.opt}..{self.largest}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """How an engine is built."""

    precision: Precision = Precision.FP32
    capabilities: tuple[Capability, ...] = ()
    """Processors to build for ahead of time; none: the library's own choice."""
    max_batch: int = 8
    max_tokens: int = 128
    size: int = 1024
    """Largest and usual height and width where they are free, pixels."""
    workspace_mib: int = 4096
    """Upper limit of a layer's scratch memory on the card."""
    extra_axes: Mapping[str, AxisRange] = field(default_factory=dict)
    """Ranges of free axes with other names."""

    def __post_init__(self) -> None:
        limits = (
            ("max-batch", self.max_batch, MAX_BATCH),
            ("max-tokens", self.max_tokens, MAX_TOKENS),
            ("size", self.size, MAX_SIZE),
            ("workspace-mib", self.workspace_mib, 1 << 20),
        )
        for name, value, largest in limits:
            if not 1 <= value <= largest:
                raise EngineError(f"{name}: {value} is not in 1 to {largest}", field=name)
        if self.size % STRIDE:
            raise EngineError(f"size: {self.size} is not a multiple of {STRIDE}", field="size")
        if len(set(self.capabilities)) != len(self.capabilities):
            raise EngineError("compute-capability: named twice", field="compute-capability")
        for capability in self.capabilities:
            require_format(self.precision, capability)

    @property
    def axes(self) -> dict[str, AxisRange]:
        """Range of every free axis that we know by name."""
        image = AxisRange(smallest=min(SMALLEST, self.size), opt=self.size, largest=self.size)
        return {
            # Two is a guided step: with the text and without.
            "batch": AxisRange(smallest=1, opt=min(2, self.max_batch), largest=self.max_batch),
            "tokens": AxisRange(smallest=1, opt=min(16, self.max_tokens), largest=self.max_tokens),
            "height": image,
            "width": image,
            **self.extra_axes,
        }

    @property
    def profile(self) -> str:
        """The ranges as text, for the engine's key."""
        return ",".join(f"{name}={span}" for name, span in sorted(self.axes.items()))

    @property
    def flags(self) -> tuple[str, ...]:
        """Every other option, for the engine's key; `trt_build` sets just these."""
        return (
            "refit=off",
            "strip=off",
            "tf32=off",
            "typing=strong",
            "verbosity=detailed",
            f"workspace_mib={self.workspace_mib}",
        )


def parse_capability(text: str) -> Capability:
    """A capability as people write it.

    Raises:
        EngineError: anything but two numbers with a dot.
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text)
    if match is None:
        raise EngineError(
            f"compute-capability: {text!r} is not like 8.6", field="compute-capability"
        )
    return Capability(int(match[1]), int(match[2]))


def require_format(precision: Precision, capability: Capability) -> None:
    """Raise unless a processor multiplies in a format."""
    lowest = Capability(*LOWEST_CAPABILITY[precision])
    if capability < lowest:
        raise EngineError(
            f"precision: {precision} needs compute capability {lowest} or later, not {capability}: "
            f"choose fp16 or fp32",
            field="precision",
        )


def profile_shapes(
    name: str, shape: Sequence[int | str], axes: Mapping[str, AxisRange]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Smallest, usual and largest shape of one input.

    Args:
        name: the input's name, for errors.
        shape: a size or the name of a free axis, per axis.
        axes: ranges of the free axes.

    Raises:
        EngineError: a free axis has no range.
    """
    spans = []
    for size in shape:
        if isinstance(size, int):
            spans.append(AxisRange(smallest=size, opt=size, largest=size))
        elif size in axes:
            spans.append(axes[size])
        else:
            raise EngineError(
                f"input {name}: no range for its free axis {size!r}; known: {', '.join(axes)}"
            )
    return (
        tuple(span.smallest for span in spans),
        tuple(span.opt for span in spans),
        tuple(span.largest for span in spans),
    )
