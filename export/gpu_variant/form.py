"""A plain export to a form for GPUs.

Puts the passes of this package in order. Knows graphs; not bundles.
"""

from dataclasses import dataclass

import onnx

from cascade.precision import Precision
from export.gpu_variant.fused_attention import restore_attention
from export.gpu_variant.fused_norms import restate_single_groups
from export.gpu_variant.half import halve
from export.gpu_variant.strip_initializers import strip_shared_weights

NORMS = ("GroupNormalization", "LayerNormalization")


@dataclass(frozen=True, slots=True)
class GpuForm:
    """One form of one graph.

    Attributes:
        model: weights inside.
        counts: blocks that are whole in it, and heavy layers in the narrow type.
    """

    model: onnx.ModelProto
    counts: dict[str, int]

    def without_shared(self, stored: bytes) -> bytes:
        """The file without the weights that another file of the bundle holds.

        Args:
            stored: the bytes of the graph's own file, which keeps them.
        """
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        strip_shared_weights(copy, onnx.load_from_string(stored))
        return copy.SerializeToString()


def gpu_form(plain: onnx.ModelProto, precision: Precision) -> GpuForm:
    """The form of a plain export in which norms and attention are one operator each.

    Args:
        plain: as `export.graphs.export_graph` returns it; left alone.
        precision: FP32, FP16 or BF16.

    Raises:
        ValueError: the export has a shape that the passes do not know, or the precision is another.
    """
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    restate_single_groups(model)
    counts = {"attention": restore_attention(model)}
    counts["norms"] = sum(node.op_type in NORMS for node in model.graph.node)
    if precision is not Precision.FP32:
        counts["narrow"] = halve(model, precision)
    onnx.checker.check_model(model)
    return GpuForm(model, counts)
