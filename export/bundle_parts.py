"""A bundle in the making: what has been exported so far, and how the caller wants it.

Records only; it makes nothing itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cascade.diffusion.spec import DiffusionSpec
from cascade.precision import Precision
from cascade.request import Handoff
from cascade.stage import Stage
from export.weights.rounding import Storage

Report = Callable[[str], None]
"""Called with lines for the person who waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What a bundle is to hold."""

    storage: Storage = Storage.INT8
    """How the large weights lie in the float32 files; decides what they are rounded to."""
    precisions: frozenset[Precision] = frozenset({Precision.FP32, Precision.INT8})
    """Graphs per diffusion stage; the float32 one is always there."""
    gpu_forms: frozenset[Precision] = frozenset({Precision.FP16})
    """Forms of every component for compilers of GPUs, in these precisions."""

    networks: Mapping[str, str] = field(default_factory=dict)
    """Checkpoint folders of stages whose network is a student's: `base` to `base.guided.8`."""

    def __post_init__(self) -> None:
        """Refuse what nobody here can write."""
        unknown = self.precisions - {Precision.FP32, Precision.INT8}
        if unknown:
            raise ValueError(
                f"precisions: no file is written for {', '.join(sorted(unknown))}; engines compute "
                "fp16 and bf16 from the float32 file (`--precision`), use --storage to shrink it"
            )


@dataclass(slots=True)
class BundleParts:
    """Files, specs, and both versions of every component; stages in order."""

    files: dict[str, bytes] = field(default_factory=dict)
    stages: list[DiffusionSpec] = field(default_factory=list)
    original: list[Stage] = field(default_factory=list)
    exported: list[Stage] = field(default_factory=list)
    eight_bit: list[Stage] = field(default_factory=list)
    """As `exported`, with the int8 graph where a stage has one."""
    painted: list[Handoff] = field(default_factory=list)
    """What the last stage's float32 graph painted: where the next stage's runs begin."""
