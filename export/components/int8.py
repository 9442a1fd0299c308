"""The int8 variant of a stage as part of a bundle: made, stored beside the float32 file, proven.

Elsewhere: static post-training quantization with calibration.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from cascade.codecs.shared_initializers import attach_initializers
from cascade.errors import ParityError
from cascade.graph_spec import PICTURE_DB, QualityRecord, VariantSpec
from cascade.precision import Precision
from cascade.types import Array
from export.components.component import ProvenGraph
from export.proof import Claim, prove
from export.quantize.sampled_runs import SampledRuns
from export.quantize.shared_weights import strip_initializers
from export.quantize.variant import Int8Graph, QuantizationInputs, QuantizeOptions, make_int8

MIN_PICTURE_DB = {64: 30.0, 256: 38.0, 1024: 38.0}
"""Worst PSNR of a stage's int8 picture by resolution; other resolutions take the base stage's."""

INT8_TOLERANCE_ABS = 8.0
"""Largest difference of one value of an int8 prediction: catches a broken graph, no more. At the
cleanest times v is noise that the network guesses and eight bits guess otherwise (single values:
2.1 on the base stage at t = 0.02, 0.35 at t = 0.25; 3.4 on SR 256); the picture sees it times
sigma, 0.03 there. What the pictures lose is `picture_db`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Variant:
    """A proven variant."""

    entry: VariantSpec
    file: bytes
    """Without the weights that the float32 file holds too."""
    graph: bytes
    """The file, completed by those."""


def make_int8_variant(
    runs: SampledRuns, proven: ProvenGraph, report: Callable[[str], None]
) -> Int8Variant | None:
    """Make the variant and prove its file.

    A stage whose pictures do not survive eight bits goes without, and the report says so: noise
    added at every step, for example, makes other pictures of what rounding changed.

    Args:
        runs: of the float32 graph, to calibrate and to compare with.
        proven: the float32 graph.
        report: called with lines for the person who waits.

    Returns:
        The variant; None where the stage goes without.

    Raises:
        ParityError: the predictions are too far from the torch network's.
    """
    spec = runs.blueprint.spec
    floor = least_db(runs)
    inputs = QuantizationInputs(runs=runs, model=proven.optimized)
    try:
        made = make_int8(inputs, QuantizeOptions(floor_db=floor), report)
    except ParityError as missed:
        report(f"{spec.name:13} without int8: {missed}")
        return None
    name, shared = f"{spec.name}.int8.onnx", proven.files[spec.graph.file]
    stripped = onnx.load_from_string(made.graph)
    strip_initializers(stripped, onnx.load_from_string(shared))
    file = stripped.SerializeToString()
    graph = attach_initializers(file, shared, name)
    claim = Claim(
        name=f"{spec.name} int8",
        original=proven.original,
        graph=graph,
        cases=first_rows(proven.cases),
        outputs=[output.name for output in spec.graph.outputs],
        precision=Precision.INT8,
        tolerance_abs=INT8_TOLERANCE_ABS,
    )
    parity = prove(claim, report)
    report_int8(spec.name, made, len(file), report)
    quality = QualityRecord(metric=PICTURE_DB, value=made.picture_db)
    entry = VariantSpec(precision=Precision.INT8, file=name, parity=parity, quality=quality)
    return Int8Variant(entry=entry, file=file, graph=graph)


def least_db(runs: SampledRuns) -> float:
    """The least PSNR of a stage's picture, or of its latent's, decibels."""
    return MIN_PICTURE_DB.get(len(runs.proof_images[0]), MIN_PICTURE_DB[64])


def first_rows(cases: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """One row of each batch: the second shows an image at another row's time.

    Sampling never does, and values beyond everything calibrated are cut. Arrays of any shape whose
    first axis is the row.
    """
    return [{name: value[:1] for name, value in case.items()} for case in cases]


def report_int8(name: str, made: Int8Graph, size_bytes: int, report: Callable[[str], None]) -> None:
    """Say what was made."""
    report(
        f"{name:13} int8: {made.counts.layers} layers ({made.share:.1%} of their work), "
        f"{made.counts.pairs} pairs, worst picture {made.picture_db:.1f} dB, "
        f"{size_bytes / 1e6:.1f} MB besides the shared weights"
    )
