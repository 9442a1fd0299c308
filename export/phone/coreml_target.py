"""Core ML: `.mlpackage` folders by coremltools. No such program runs on Linux.

The one file that imports coremltools. Left alone it computes and answers in half precision from
iOS 16 on; here both ends and everything between are float32, and the program is read back to see
that they are.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import torch

from cascade.errors import ParityError
from export.phone.subject import PhoneGraph, example_of, phone_network

KINDS = {"float32": np.float32, "int64": np.int32}
"""Core ML has no int64: token numbers and places of pixels fit in 32 bits."""


class CoremlTarget:
    """See `Target`."""

    suffix = ".mlpackage"
    reads_graphs = False

    @property
    def version(self) -> str:
        """The converter."""
        return f"coremltools {version('coremltools')}"

    def convert(self, subject: PhoneGraph, path: Path) -> None:
        """Convert for iOS 18, whose attention is one operator."""
        network = phone_network(subject)
        with torch.no_grad():
            traced = torch.jit.trace(network, example_of(subject))
        model = coremltools.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                coremltools.TensorType(name=t.name, shape=t.shape, dtype=KINDS[t.dtype])
                for t in subject.inputs
            ],
            outputs=[
                coremltools.TensorType(name=t.name, dtype=np.float32) for t in subject.outputs
            ],
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS18,
            skip_model_load=True,
        )
        model.save(str(path))

    def check(self, subject: PhoneGraph, path: Path) -> None:
        """Read the written program back: names, shapes and dtypes of its ends, and none in half.

        Raises:
            ParityError: one of them is another.
        """
        spec = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()
        for wanted, found in (
            (subject.inputs, spec.description.input),
            (subject.outputs, spec.description.output),
        ):
            ends = {end.name: end.type.multiArrayType for end in found}
            for tensor in wanted:
                check_end(subject, tensor.name, tensor.shape, ends.get(tensor.name))
        half = [name for name, kind in values_of(spec) if kind == HALF]
        if half:
            raise ParityError(
                f"{subject.name}: {len(half)} values of the converted program are float16, "
                f"{half[0]} among them; float32 was asked for",
                field=subject.component,
            )

    def input_dtypes(self, subject: PhoneGraph, path: Path) -> Mapping[str, str]:
        """As the written program states them."""
        spec = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()
        kinds = {end.name: end.type.multiArrayType.dataType for end in spec.description.input}
        return {tensor.name: NAMES[kinds[tensor.name]] for tensor in subject.inputs}

    def open(self, subject: PhoneGraph, path: Path) -> None:
        """No runtime here."""


HALF = 10
"""FLOAT16 in MIL's data types."""
FLOAT32_ARRAY, INT32_ARRAY = 65568, 131104
"""Of `ArrayFeatureType`."""
NAMES = {FLOAT32_ARRAY: "float32", INT32_ARRAY: "int32"}
"""In the words of `phone.json`."""


def check_end(subject: PhoneGraph, name: str, shape: tuple[int | str, ...], end: Any) -> None:
    """Compare an input or output of the program with what was asked for.

    Raises:
        ParityError: another dtype or shape, or it is missing.
    """
    found = None if end is None else (tuple(end.shape), end.dataType)
    allowed = {(tuple(shape), FLOAT32_ARRAY), (tuple(shape), INT32_ARRAY)}
    if found not in allowed:
        raise ParityError(
            f"{subject.name}: {name} is {found} in the converted program, not {list(shape)} "
            "of float32 or int32",
            field=subject.component,
        )


def values_of(spec: Any) -> list[tuple[str, int]]:
    """Every value of a program's operators with its MIL data type."""
    found = []
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                found += [(v.name, v.type.tensorType.dataType) for v in operation.outputs]
    return found
