"""The int8 variant of a stage as part of a bundle: made, stored beside the float32 file, proven.

For stages of our own and for described ones alike. Knows bundles in the making; neither where runs
start nor how layers are chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from cascade.codecs.shared_initializers import attach_initializers
from cascade.diffusion.spec import DiffusionSpec
from cascade.engine import Engine
from cascade.errors import ParityError
from cascade.graph_spec import VariantSpec
from cascade.precision import Precision
from cascade.types import Array
from export.bundle_parts import BundleParts, Report
from export.proof import Claim, prove
from export.quantize.shared_weights import strip_initializers
from export.quantize.variant import Int8Graph, Material, QuantizeOptions, make_int8

MIN_PICTURE_DB = {64: 30.0, 256: 38.0, 1024: 38.0}
"""Worst PSNR of a stage's int8 picture by resolution; other resolutions take the base stage's."""

INT8_TOLERANCE_ABS = 8.0
"""Largest difference of one value of an int8 prediction: catches a broken graph, no more. At the
cleanest times v is noise that the network guesses and eight bits guess otherwise (single values:
2.1 on the base stage at t = 0.02, 0.35 at t = 0.25; 3.4 on SR 256); the picture sees it times
sigma, 0.03 there. What the pictures lose is `picture_db`."""


def add_int8_variant(
    parts: BundleParts,
    material: Material,
    original: tuple[Engine, Sequence[Mapping[str, Array]]],
    report: Report,
) -> DiffusionSpec | None:
    """Make the variant, keep its file, prove it.

    A stage whose pictures do not survive eight bits goes without, and the report says so: noise
    added at every step, for example, makes other pictures of what rounding changed.

    Args:
        parts: with the stage's float32 file.
        material: what the variant is made from.
        original: the torch network, and inputs to compare it with the file on.
        report: called with lines for the person who waits.

    Returns:
        The stage's entry with the variant; None where it goes without.

    Raises:
        ParityError: the predictions are too far from the torch network's.
    """
    spec = material.spec
    floor = MIN_PICTURE_DB.get(spec.output_resolution, MIN_PICTURE_DB[64])
    try:
        made = make_int8(material, QuantizeOptions(floor_db=floor), report)
    except ParityError as missed:
        report(f"{spec.name:13} without int8: {missed}")
        return None
    file = f"{spec.name}.int8.onnx"
    thin = onnx.load_from_string(made.graph)
    strip_initializers(thin, onnx.load_from_string(parts.files[spec.graph.file]))
    parts.files[file] = thin.SerializeToString()
    network, cases = original
    claim = Claim(
        name=f"{spec.name} int8",
        original=network,
        graph=attach_initializers(parts.files[file], parts.files[spec.graph.file], file),
        cases=cases,
        outputs=[output.name for output in spec.graph.outputs],
        precision=Precision.INT8,
        tolerance_abs=INT8_TOLERANCE_ABS,
    )
    parity = prove(claim, report)
    report_int8(spec.name, made, len(parts.files[file]), report)
    variant = VariantSpec(
        precision=Precision.INT8, file=file, parity=parity, picture_db=made.picture_db
    )
    return replace(spec, graph=replace(spec.graph, variants=(variant,)))


def int8_graph(parts: BundleParts, spec: DiffusionSpec) -> bytes:
    """The variant's file, completed by the weights that it shares."""
    (file,) = [v.file for v in spec.graph.variants if v.precision is Precision.INT8]
    return attach_initializers(parts.files[file], parts.files[spec.graph.file], file)


def report_int8(name: str, made: Int8Graph, size_bytes: int, report: Report) -> None:
    """Say what was made."""
    report(
        f"{name:13} int8: {made.counts.layers} layers ({made.share:.1%} of their work), "
        f"{made.counts.pairs} pairs, worst picture {made.picture_db:.1f} dB, "
        f"{size_bytes / 1e6:.1f} MB besides the shared weights"
    )
