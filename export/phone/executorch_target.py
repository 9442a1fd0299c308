"""ExecuTorch: `.pte` files whose operators XNNPACK computes where it can.

The one file that imports executorch. Every axis is a number: with a free batch a convolution that
was exported with fewer than sixteen rows takes fifteen at most, whatever the program promises.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime

from cascade.types import Array
from export.phone.subject import PhoneGraph, example_of, phone_network


class ExecutorchFile:
    """A `.pte` in ExecuTorch's own runtime."""

    def __init__(self, path: Path, inputs: Sequence[str]) -> None:
        self._program = Runtime.get().load_program(path)
        self._method: Any = self._program.load_method("forward")
        self._inputs = inputs

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """See `PhoneFile.run`; arrays of the program's fixed shapes."""
        values = [torch.from_numpy(inputs[name].copy()) for name in self._inputs]
        return [tensor.numpy().copy() for tensor in self._method.execute(values)]


class ExecutorchTarget:
    """See `Target`."""

    suffix = ".pte"
    reads_graphs = False

    @property
    def version(self) -> str:
        """ExecuTorch's."""
        return f"executorch {version('executorch')}, XNNPACK"

    def convert(self, subject: PhoneGraph, path: Path) -> None:
        """Lower to XNNPACK; what it does not take runs on ExecuTorch's portable kernels."""
        network = phone_network(subject)
        program = torch.export.export(network, example_of(subject))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)

    def check(self, subject: PhoneGraph, path: Path) -> None:
        """Nothing beyond running it."""

    def input_dtypes(self, subject: PhoneGraph, path: Path) -> Mapping[str, str]:
        """Those of the bundle, which a program takes alone."""
        del path
        return {tensor.name: tensor.dtype for tensor in subject.inputs}

    def open(self, subject: PhoneGraph, path: Path) -> ExecutorchFile:
        """Load the program."""
        return ExecutorchFile(path, [tensor.name for tensor in subject.inputs])
