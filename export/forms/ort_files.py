"""Graphs in ONNX Runtime's own format, kept as small as they are, and the operators that they use.

The converter that comes with ONNX Runtime folds constants: weights stored in eight bits become
float32, four times as large. Ensures: the same graph, optimised for any processor, with its weights
as they are stored; they are widened in every run instead. Worth it where opening is what takes
time: text encoders open three to twenty times as fast. Knows graphs; not bundles.

References:
    https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html
"""

import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import onnxruntime as ort
from onnxruntime.tools.ort_format_model import create_config_from_models

UNWANTED = ["ConstantFolding"]
"""Optimisers that would write weights out."""


def ort_file(graph: bytes) -> bytes:
    """A graph in ONNX Runtime's format.

    Args:
        graph: an ONNX file with its weights inside.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.ort"
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Not beyond: layouts are those of the processor that optimises.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=UNWANTED
        )
        return path.read_bytes()


def required_operators(files: Iterable[Path], path: Path) -> None:
    """Write the list of operators and types that a build of ONNX Runtime needs for some files.

    Args:
        files: in ONNX Runtime's format.
        path: of the list, as `--include_ops_by_config` of its build takes it.
    """
    with warnings.catch_warnings():
        # The reader leaves it to the interpreter to close the files.
        warnings.simplefilter("ignore", ResourceWarning)
        create_config_from_models(list(files), path, enable_type_reduction=True)
