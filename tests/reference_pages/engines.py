"""Which engine runs what, read from the table of engines.

Knows the enumerations; what a machine needs for each engine is a table here, which has to be
complete.
"""

from cascade.engines.kinds import (
    GPU_GRAPH_KINDS,
    MODULES,
    OWN_PRECISIONS,
    PROCESSOR_HALVES,
    EngineKind,
    reads_files,
)
from cascade.precision import Precision
from tests.reference_pages.markdown import table

NEEDS = {
    EngineKind.ORT: ("CPU", "`[cpu]`"),
    EngineKind.OPENVINO: ("CPU", "`[openvino]`"),
    EngineKind.ORT_CUDA: ("NVIDIA GPU", "`[gpu]`"),
    EngineKind.ORT_TENSORRT: ("NVIDIA GPU", "`[gpu]`"),
    EngineKind.TENSORRT: ("NVIDIA GPU", "`[gpu]`"),
    EngineKind.TRITON: ("a Triton server's", "none"),
}
"""By engine: hardware, and the extra of the package."""


def from_file(kind: EngineKind, precision: Precision) -> str:
    """How an engine gets to compute in a precision."""
    if precision in OWN_PRECISIONS[kind]:
        flags = PROCESSOR_HALVES.get(kind, {}).get(precision)
        return "yes" if flags is None else f"yes, with {' or '.join(sorted(flags))}"
    if not reads_files(kind, precision):
        return "no"
    return "GPU form or file" if kind in GPU_GRAPH_KINDS else "file"


def engines() -> str:
    """The table."""
    rows = [
        (
            f"`{kind.value}`",
            NEEDS[kind][0],
            NEEDS[kind][1],
            ", ".join(f"`{name}`" for name in MODULES[kind]) or "nothing",
            *(from_file(kind, precision) for precision in Precision),
        )
        for kind in EngineKind
    ]
    head = ("engine", "hardware", "extra", "imports", *(f"`{p.value}`" for p in Precision))
    return table(head, rows)
