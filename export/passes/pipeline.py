"""All graph passes in order: a plain export in, the same network in its fastest algebra out.

Requires: a graph of `export_graph` (opset 21, float32, no subgraphs). Ensures: the same function up
to the rounding of sums in another order, standard ONNX plus ONNX Runtime's own domain, every free
axis still free, convolution and linear weights moved or cut but not changed. Knows the order of the
passes; each pass states what it needs itself. Not for TensorRT, which wants the plain export: it
fuses norms and attention whole.
"""

from collections.abc import Callable, Mapping

import onnx

from export.passes.attention import fuse_attention
from export.passes.axis_names import name_feature_axes
from export.passes.conditioning import join_conditioning
from export.passes.group_norm import split_group_norms
from export.passes.pixel_shuffle import split_pixel_shuffles
from export.passes.projections import join_projections
from export.passes.sample_factors import gather_sample_factors
from export.passes.split_concat import split_concats
from export.passes.straight_path import join_straight_path
from export.passes.swish import fuse_swish

PASSES: Mapping[str, Callable[[onnx.ModelProto], int]] = {
    "swish": fuse_swish,
    # Before the norms are taken apart: these know them whole, and shapes are still inferable.
    "conditioning": join_conditioning,
    "pixel_shuffle": split_pixel_shuffles,
    "sample_factors": gather_sample_factors,
    # After the factors are gathered: what is left of them is one per picture.
    "straight_path": join_straight_path,
    "split_convolutions": split_concats,
    "group_norm": split_group_norms,
    "attention": fuse_attention,
    "projections": join_projections,
    # Last: it describes the maps that there are now.
    "named_convolutions": name_feature_axes,
}
"""Name in the manifest to pass, in the order in which they run."""


def optimize(model: onnx.ModelProto) -> dict[str, int]:
    """Rewrite a graph in place.

    Returns:
        How often each pass found what it looks for; `export.passes.expectations` says how often it
        should have.
    """
    counts = {name: run(model) for name, run in PASSES.items()}
    onnx.checker.check_model(model)
    return counts
