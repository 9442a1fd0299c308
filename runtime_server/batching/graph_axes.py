"""What batching has to know of a graph's inputs: which of them may be padded, and what it returns.

The one place where the batcher looks into a graph: an input has its batch axis first; the manifest
says which axis may be filled up with zeros, and which input is the mask that leaves them out
(`GraphSpec.padded_by`). Knows the records of a graph, and no input by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from cascade.graph_spec import GraphSpec, TensorSpec
from cascade.types import Array

PADDED_AXIS = 1
"""Of every padded input: rows, then tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphAxes:
    """The axes of one graph."""

    inputs: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Shapes by name; an axis is a size or the name of a free one."""
    outputs: tuple[TensorSpec, ...] = ()
    padded: frozenset[str] = frozenset()
    """Inputs whose second axis may be filled up with zeros; empty where nothing masks them."""
    mask: str = ""
    """The input that leaves out what was added; empty where there is none."""

    def output_bytes(self, inputs: Mapping[str, Array]) -> int:
        """Bytes of the outputs of a run with these inputs."""
        # Free axes have their sizes from the inputs of this very run.
        sizes = {
            axis: size
            for name, array in inputs.items()
            for axis, size in zip(self.inputs.get(name, ()), array.shape, strict=False)
            if isinstance(axis, str)
        }
        return sum(
            np.dtype(output.dtype).itemsize
            * prod(axis if isinstance(axis, int) else sizes.get(axis, 1) for axis in output.shape)
            for output in self.outputs
        )


def axes_of(graph: GraphSpec) -> GraphAxes:
    """The axes of a graph as the manifest records it."""
    shapes = {tensor.name: tensor.shape for tensor in graph.inputs}
    padded = graph.padded_axes
    if set(padded.values()) != {(PADDED_AXIS,)}:
        return GraphAxes(inputs=shapes, outputs=graph.outputs)
    (mask,) = set(graph.padded_by.values())
    return GraphAxes(inputs=shapes, outputs=graph.outputs, padded=frozenset(padded), mask=mask)
