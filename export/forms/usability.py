"""What ONNX Runtime's own checker says of a graph on accelerators of phones.

Its figures are those of `python -m onnxruntime.tools.check_onnx_model_mobile_usability`: nodes that
a provider lists, and into how many pieces the graph falls. What operators bear beyond their name,
the provider itself decides on the device.

References:
    https://onnxruntime.ai/docs/tutorials/mobile/helpers/model-usability-checker.html
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from onnxruntime.tools.mobile_helpers import usability_checker
from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

from cascade.errors import ParityError

MLPROGRAM = "CoreML MLProgram"
TARGETS = {
    MLPROGRAM: "coreml_supported_mlprogram_ops.md",
    "CoreML NeuralNetwork": "coreml_supported_neuralnetwork_ops.md",
    "NNAPI": None,
}
"""Provider to the checker's list of its operators; that of NNAPI it finds itself."""

MOST_PARTITIONS = 3
"""Pieces of a graph on MLProgram: each costs a copy there and one back."""


@dataclass(frozen=True, slots=True)
class Usability:
    """One graph on one accelerator."""

    partitions: int
    """Pieces that it takes."""
    supported: int
    """Nodes in them."""
    nodes: int
    """Of the graph, after ONNX Runtime's basic optimisation."""
    verdict: str
    """YES, MAYBE or NO: whether it should perform well."""
    unsupported: tuple[str, ...]
    """Operators that it does not list."""


def usability(graph: bytes) -> dict[str, Usability]:
    """A graph on every target.

    Args:
        graph: an ONNX file with its weights inside.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, optimized = Path(folder) / "plain.onnx", Path(folder) / "optimized.onnx"
        plain.write_bytes(graph)
        optimize_model(plain, optimized)
        model = ModelProtoWithShapeInfo(optimized).model_with_shape_info
    found = {}
    for target, listed in TARGETS.items():
        if listed is None:
            parts = usability_checker.check_nnapi_partitions(model, True)  # noqa: FBT003
        else:
            parts = usability_checker.check_coreml_partitions(model, True, listed)  # noqa: FBT003
        found[target] = Usability(
            partitions=parts.num_partitions,
            supported=parts.num_supported_nodes,
            nodes=parts.num_nodes,
            verdict=parts.suitability().name,
            unsupported=tuple(sorted(parts.unsupported_ops)),
        )
    return found


def check_usable(name: str, found: dict[str, Usability]) -> None:
    """Refuse a form that MLProgram would take in too many pieces.

    Raises:
        ParityError: naming the operators that cut it.
    """
    parts = found[MLPROGRAM]
    if not 1 <= parts.partitions <= MOST_PARTITIONS:
        cut = ", ".join(parts.unsupported) or "sizes that are not fixed"
        raise ParityError(
            f"{name}: {MLPROGRAM} takes it in {parts.partitions} pieces, expected 1 to "
            f"{MOST_PARTITIONS}: it is cut by {cut}",
            field=name,
        )
