"""ONNX Runtime: `.ort` files of the form for phones, with weights as small as the bundle's.

Made of the bundle's own graph, so that it works for every bundle. Knows graphs; not networks.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import onnx

from cascade.engines.ort import OrtEngine
from cascade.errors import UnsupportedModel
from cascade.types import Array
from export.forms.ort_files import ort_file
from export.forms.phone import phone_form
from export.phone.subject import BATCH, PhoneGraph


class OrtFile:
    """An `.ort` in ONNX Runtime, which opens the format wherever it runs."""

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        self._engine = OrtEngine(path.read_bytes())
        self._outputs = outputs

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """See `PhoneFile.run`; arrays of the program's fixed shapes."""
        found = self._engine.run(inputs)
        return [found[name] for name in self._outputs]


class OrtTarget:
    """See `Target`."""

    suffix = ".ort"
    reads_graphs = True

    @property
    def version(self) -> str:
        """ONNX Runtime's."""
        return f"onnxruntime {version('onnxruntime')}"

    def convert(self, subject: PhoneGraph, path: Path) -> None:
        """Rewrite the bundle's graph, and store it in ONNX Runtime's format."""
        graph = onnx.load_from_string(subject.graph)
        try:
            form = phone_form(graph, BATCH, subject.tokens, subject.sides)
        except ValueError as exc:
            raise UnsupportedModel(
                f"{subject.name}: the graph has no form for phones: {exc}", field=subject.component
            ) from exc
        path.write_bytes(ort_file(form.SerializeToString()))

    def check(self, subject: PhoneGraph, path: Path) -> None:
        """Nothing beyond running it."""

    def input_dtypes(self, subject: PhoneGraph, path: Path) -> Mapping[str, str]:
        """Those of the bundle, which a session takes alone."""
        del path
        return {tensor.name: tensor.dtype for tensor in subject.inputs}

    def open(self, subject: PhoneGraph, path: Path) -> OrtFile:
        """Open a session."""
        return OrtFile(path, [tensor.name for tensor in subject.outputs])
