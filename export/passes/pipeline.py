"""All graph passes in order: a plain export in, the same network in its fastest algebra out.

Requires: a graph of `export_graph` (opset 21, float32, no subgraphs). Ensures: the same function up
to the rounding of sums in another order, standard ONNX plus ONNX Runtime's own domain, every free
axis still free, convolution and linear weights moved or cut but not changed. Knows the order of the
passes; each pass states what it needs itself, and is tried on the graph at hand. Not for TensorRT,
which wants the plain export: it fuses norms and attention whole.
"""

import logging
from collections.abc import Callable, Mapping

import onnx

from export.passes.attention import fuse_attention
from export.passes.axis_names import name_feature_axes
from export.passes.conditioning import join_conditioning
from export.passes.gate import Gate
from export.passes.group_norm import split_group_norms
from export.passes.pixel_shuffle import split_pixel_shuffles
from export.passes.preconditioning import join_preconditioning
from export.passes.projections import join_projections
from export.passes.sample_factors import gather_sample_factors
from export.passes.split_concat import split_concats
from export.passes.swish import fuse_swish

PASSES: Mapping[str, Callable[[onnx.ModelProto], int]] = {
    "swish": fuse_swish,
    # Before the norms are taken apart: these know them whole, and shapes are still inferable.
    "conditioning": join_conditioning,
    "pixel_shuffle": split_pixel_shuffles,
    "sample_factors": gather_sample_factors,
    # After the factors are gathered: what is left of them is one per picture.
    # The name that manifests have for it.
    "straight_path": join_preconditioning,
    "split_convolutions": split_concats,
    "group_norm": split_group_norms,
    "attention": fuse_attention,
    "projections": join_projections,
    # Last: it describes the maps that there are now.
    "named_convolutions": name_feature_axes,
}
"""Name in the manifest to pass, in the order in which they run."""

UNDONE = "_undone"
"""What is appended to the name of a pass that was undone, in the manifest too."""

Report = Callable[[str], None]


def warn(line: str) -> None:
    """Say a line where nobody else is there to say it."""
    logging.getLogger(__name__).warning(line)


def optimize(model: onnx.ModelProto, report: Report = warn) -> dict[str, int]:
    """Rewrite a graph in place; what does not stand up to `export.passes.gate` is not done.

    Args:
        model: the plain export.
        report: called with a line for each pass that was undone.

    Returns:
        How often each pass found what it looks for; `export.passes.expectations` says how often it
        should have. A pass that was undone found nothing, and has a second entry (`UNDONE`).
    """
    plain = copied(model)
    gate = Gate(plain)
    counts: dict[str, int] = {}
    try:
        counts = {name: run(model) for name, run in PASSES.items()}
        problem = gate.problem(model)
    except Exception as failed:  # noqa: BLE001 - any failure of a pass is found again, and named
        problem = str(failed)
    if problem is None:
        return counts
    model.CopyFrom(plain)
    return one_by_one(model, gate, report)


def one_by_one(model: onnx.ModelProto, gate: Gate, report: Report) -> dict[str, int]:
    """Rewrite in place as `optimize` does, and try the graph after every pass."""
    counts: dict[str, int] = {}
    for name, run in PASSES.items():
        changed = copied(model)
        try:
            found = run(changed)
            problem = gate.problem(changed) if found else None
        except Exception as failed:  # noqa: BLE001 - a graph that nobody here has seen
            found, problem = 0, f"{type(failed).__name__}: {failed}"
        counts[name] = found
        if problem is not None:
            report(f"graph pass {name} undone for this network: {problem}")
            counts[name], counts[name + UNDONE] = 0, 1
        elif found:
            model.CopyFrom(changed)
    return counts


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
