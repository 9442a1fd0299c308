"""How one graph is run, and the one place that opens the engine for it.

Imports only the chosen engine's module, when it is chosen: a light client never loads a runtime
that it does not use. Which choice is best is not known here (`cascade.tuning.plan`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.addresses import split_address
from cascade.engine import Engine
from cascade.engines.kinds import BLOCK_KINDS, EngineKind, installed_kinds, reads_files
from cascade.errors import EngineError
from cascade.precision import Precision
from cascade.system.owning_process import do_in_children, never_free
from cascade.weights.source import GraphSource

LARGE_VALUES = 1 << 20
"""Of one input and row: a picture of 600x600 has as many. Its maps take tens of megabytes each."""

DefaultShapes = Mapping[str, Sequence[int | None]]

__all__ = ["EngineChoice", "EngineKind", "installed_kinds", "open_engine"]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """How one graph is run."""

    kind: EngineKind
    precision: Precision
    """Of the file that is opened, or what the engine makes of the float32 file by itself."""
    threads: int = 0
    """Threads of one run on a CPU; 0 takes one per core that this process may use."""
    address: str = ""
    """Of an engine elsewhere, `host:port`; empty for one of this process."""
    model: str = field(default="", compare=False)
    """Name of the graph on such an engine."""
    default_shapes: DefaultShapes | None = field(default=None, compare=False, repr=False)
    """Input shapes of most runs, for engines that are faster when they know; None in an axis that
    varies. No part of what makes two choices equal: any shape can be run."""


def open_engine(graph: GraphSource, choice: EngineChoice, *, cache: Path | None = None) -> Engine:
    """An engine at work on a graph.

    Args:
        graph: of `choice.precision` where the bundle has one.
        choice: which engine, and how.
        cache: a private folder for what the engine compiled; None keeps nothing.

    Raises:
        MissingExtra: the engine's package is not installed; the message has the pip command.
        EngineError: the engine cannot run the graph, or not in that precision on this machine.
        ManifestError: weights beside the graph are not what the manifest says.
    """
    engine = make_engine(graph, choice, cache)
    do_in_children(engine, never_free)
    return engine


def has_large_input(shapes: DefaultShapes | None) -> bool:
    """Whether a row of an input is as large as a large picture; of unknown shapes it may be."""
    if shapes is None:
        return True
    rows = (math.prod(size or 1 for size in shape[1:]) for shape in shapes.values())
    return max(rows, default=0) >= LARGE_VALUES


def make_engine(graph: GraphSource, choice: EngineChoice, cache: Path | None) -> Engine:
    """The engine that a choice names; see `open_engine`."""
    if not reads_files(choice.kind, choice.precision):
        able = ", ".join(sorted(BLOCK_KINDS[choice.precision]))
        raise EngineError(
            f"precision: {choice.kind} runs no {choice.precision} file: use --engine {able}, or "
            "another precision",
            field="precision",
        )
    if choice.kind is EngineKind.OPENVINO:
        from cascade.engines.openvino import OpenVinoEngine  # noqa: PLC0415  see the top

        return OpenVinoEngine(
            graph,
            threads=choice.threads,
            precision=choice.precision,
            cache=cache,
            default_shapes=choice.default_shapes,
        )
    if choice.kind is EngineKind.TENSORRT:
        from cascade.engines.trt import TensorRtEngine  # noqa: PLC0415

        return TensorRtEngine(graph, precision=choice.precision, cache=cache)
    if choice.kind is EngineKind.TRITON:
        from cascade.engines.triton import TritonEngine  # noqa: PLC0415

        address = split_address(choice.address, "engine")
        return TritonEngine(graph, address=address, model=choice.model)
    from cascade.engines.ort import OrtEngine  # noqa: PLC0415

    if choice.kind is EngineKind.ORT:
        large = has_large_input(choice.default_shapes)
        return OrtEngine(graph, threads=choice.threads, keeps_scratch=large)
    from cascade.engines.ort_gpu import gpu_provider  # noqa: PLC0415

    provider = gpu_provider(choice.kind, choice.precision, cache)
    return OrtEngine(graph, threads=choice.threads, provider=provider)
