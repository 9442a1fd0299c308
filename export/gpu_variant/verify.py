"""A form for GPUs as a bundle's entry and file, after its parity was measured.

What is compared is what a GPU's compiler would read: the file as written, completed by the weights
that it leaves out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from cascade.codecs.shared_initializers import attach_initializers
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.graph_spec import GpuFormSpec
from cascade.precision import Precision
from cascade.types import Array
from export.gpu_variant.cpu_checkable import cpu_checkable
from export.gpu_variant.form import gpu_form
from export.parity import TOLERANCE_ABS, compare_engines

HALF_TOLERANCE_ABS = 0.1
"""Half precision keeps eleven bits: 4e-3 was the most seen in predictions of a range of 20; where
super-resolution enlarges the residual twenty times it may be more. A sanity bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuFormSource:
    """What a form is made of and compared with."""

    name: str
    """The component's."""
    traced: onnx.ModelProto
    """As torch exported it, before any pass for CPUs."""
    stored: bytes
    """The graph's own file, which keeps the weights that the form leaves out."""
    original: Engine
    """The torch network."""
    cases: Sequence[Mapping[str, Array]]
    """Batches of inputs by name."""
    outputs: Sequence[str]


def verify_gpu_form(source: GpuFormSource, precision: Precision) -> tuple[GpuFormSpec, bytes]:
    """The entry and the bytes of a form; its parity is that of the worst output.

    Args:
        source: what of.
        precision: FP32 or FP16: ONNX Runtime has no bfloat16 on CPUs to measure with.

    Raises:
        ParityError: it is too far from the torch network.
        ValueError: the export has a shape that the passes do not know, or the precision is another.
    """
    tolerances = {Precision.FP32: TOLERANCE_ABS, Precision.FP16: HALF_TOLERANCE_ABS}
    if precision not in tolerances:
        raise ValueError(f"{precision}: parity can be measured here for fp32 and fp16 alone")
    file = f"{source.name}.gpu-{precision}.onnx"
    data = gpu_form(source.traced, precision).without_shared(source.stored)
    whole = onnx.load_from_string(attach_initializers(data, source.stored, file))
    engine = OrtEngine(cpu_checkable(whole).SerializeToString())
    records = [
        compare_engines(
            source.original,
            engine,
            source.cases,
            output,
            tolerance_abs=tolerances[precision],
        )
        for output in source.outputs
    ]
    engine.close()
    parity = max(records, key=lambda record: record.max_abs_error)
    return GpuFormSpec(precision=precision, file=file, parity=parity), data
