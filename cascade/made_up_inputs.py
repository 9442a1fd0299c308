"""Inputs that fit a component's graph and mean nothing: for trying a graph and for timing it.

Always the same numbers for the same shapes. Knows the manifest; no engine.
"""

from collections.abc import Mapping

import numpy as np

from cascade.manifest import Component, TensorSpec, TextEncoderSpec
from cascade.types import Array


def free_axes(component: Component, *, batch: int, tokens: int) -> dict[str, int]:
    """Sizes of the free axes: the component's own resolution for height and width."""
    size = 64 if isinstance(component, TextEncoderSpec) else component.output_resolution
    return {"batch": batch, "tokens": tokens, "height": size, "width": size}


def shape_of(tensor: TensorSpec, axes: Mapping[str, int]) -> tuple[int, ...]:
    """A tensor's shape with every free axis filled in."""
    return tuple(axes[n] if isinstance(n, str) else n for n in tensor.shape)


def made_up_inputs(component: Component, axes: Mapping[str, int]) -> dict[str, Array]:
    """Every input of the graph by name."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for tensor in component.graph.inputs:
        # Token numbers 0 and 1: every vocabulary has them.
        values = rng.random(shape_of(tensor, axes)) * (1 if tensor.dtype == "float32" else 2)
        inputs[tensor.name] = values.astype(tensor.dtype)
    return inputs
