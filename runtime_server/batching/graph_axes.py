"""What batching has to know of a graph's inputs: which of them may be padded, and what it returns.

The one place where the batcher looks into a graph: an input has its batch axis first; an axis that
several inputs share by name may be filled up with zeros if one of them is a mask, a floating point
input of exactly batch and that axis, which leaves out what was added. Not where an output has the
axis too: it would come out too long. Knows the records of a graph, and no input by name.
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
    # An encoder's output has an entry per token: padded, it would not be what it is alone.
    returned = {axis for tensor in graph.outputs for axis in tensor.shape}
    masks = [t for t in graph.inputs if len(t.shape) == 2 and t.dtype.startswith("float")]
    for mask in masks:
        axis = mask.shape[PADDED_AXIS]
        sharing = {
            name
            for name, shape in shapes.items()
            if len(shape) > PADDED_AXIS and shape[PADDED_AXIS] == axis
        }
        # A mask of a fixed length masks nothing that could be unequal.
        if isinstance(axis, str) and axis not in returned and len(sharing) > 1:
            return GraphAxes(
                inputs=shapes, outputs=graph.outputs, padded=frozenset(sharing), mask=mask.name
            )
    return GraphAxes(inputs=shapes, outputs=graph.outputs)
