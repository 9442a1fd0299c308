"""LiteRT: `.tflite` files by litert-torch, run by the interpreter of ai-edge-litert.

The one file that imports either. Every axis is a number: with a free batch the converter drops the
concatenation in front of a convolution, and says nothing.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cascade.types import Array
from export.phone.subject import PhoneGraph, example_of, phone_network

ENDING = re.compile(r"_(\d+)\D*$")


def number_of(place: Mapping[str, Any]) -> int:
    """Which input or output a tensor is: its name ends in the number, in text order no order."""
    found = ENDING.search(place["name"])
    return 0 if found is None else int(found[1])


class LitertFile:
    """A `.tflite` in LiteRT's interpreter, with XNNPACK as phones have it."""

    def __init__(self, path: Path, inputs: Sequence[str]) -> None:
        self._interpreter = Interpreter(model_path=str(path))
        self._interpreter.allocate_tensors()
        self._inputs = inputs

    @property
    def dtypes(self) -> dict[str, str]:
        """Of the inputs, by name."""
        return {name: np.dtype(place["dtype"]).name for name, place in self._places}

    @property
    def _places(self) -> list[tuple[str, Any]]:
        """The inputs in order, by name."""
        places = sorted(self._interpreter.get_input_details(), key=number_of)
        return list(zip(self._inputs, places, strict=True))

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """See `PhoneFile.run`; arrays of the program's fixed shapes."""
        for name, place in self._places:
            self._interpreter.set_tensor(place["index"], inputs[name].astype(place["dtype"]))
        self._interpreter.invoke()
        found = sorted(self._interpreter.get_output_details(), key=number_of)
        return [self._interpreter.get_tensor(place["index"]).copy() for place in found]


class LitertTarget:
    """See `Target`."""

    suffix = ".tflite"
    reads_graphs = False

    @property
    def version(self) -> str:
        """Converter and runtime."""
        return f"litert-torch {version('litert-torch')}, ai-edge-litert {version('ai-edge-litert')}"

    def convert(self, subject: PhoneGraph, path: Path) -> None:
        """Convert with example inputs of the fixed shapes."""
        network = phone_network(subject)
        litert_torch.convert(network, example_of(subject)).export(str(path))

    def check(self, subject: PhoneGraph, path: Path) -> None:
        """Nothing beyond running it."""

    def input_dtypes(self, subject: PhoneGraph, path: Path) -> Mapping[str, str]:
        """As the file itself states them."""
        return self.open(subject, path).dtypes

    def open(self, subject: PhoneGraph, path: Path) -> LitertFile:
        """Load the file."""
        return LitertFile(path, [tensor.name for tensor in subject.inputs])
