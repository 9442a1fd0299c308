"""Inputs that fit a component or its graph and mean nothing: for trying, timing and warming up.

Always the same numbers for the same shapes. Knows the manifest; no engine.
"""

from collections.abc import Mapping

import numpy as np

from cascade.bundle.manifest import Component, Manifest
from cascade.diffusion.spec import DiffusionSpec
from cascade.graph_spec import TensorSpec
from cascade.request import Handoff
from cascade.text.spec import TextEncoderSpec
from cascade.types import Array


def free_axes(component: Component, *, batch: int, tokens: int) -> dict[str, int]:
    """Sizes of the free axes: the component's own resolution for height and width."""
    size = 64 if isinstance(component, TextEncoderSpec) else component.output_resolution
    return {"batch": batch, "tokens": tokens, "height": size, "width": size}


def default_batch(component: Component) -> int:
    """Rows of one run with the manifest's defaults: guidance doubles them, unless it is taught."""
    if not isinstance(component, DiffusionSpec) or component.guidance.taught:
        return 1
    return 1 if component.guidance.weight == 1.0 else 2


def default_shapes(component: Component) -> dict[str, tuple[int | None, ...]]:
    """Input shapes of a run with the manifest's defaults; None where texts differ in length."""
    sizes = free_axes(component, batch=default_batch(component), tokens=0)
    axes: dict[str, int | None] = {**sizes, "tokens": None}
    return {
        tensor.name: tuple(axes[n] if isinstance(n, str) else n for n in tensor.shape)
        for tensor in component.graph.inputs
    }


def shape_of(tensor: TensorSpec, axes: Mapping[str, int]) -> tuple[int, ...]:
    """A tensor's shape with every free axis filled in."""
    return tuple(axes[n] if isinstance(n, str) else n for n in tensor.shape)


def dummy_inputs(component: Component, axes: Mapping[str, int]) -> dict[str, Array]:
    """Every input of the graph by name.

    Pictures are smooth and noisy ones are halfway to noise, as a denoising step sees them: an 8-bit
    graph is right only within the range that it was made for.

    Returns:
        Arrays of the shape and dtype that the graph declares, its free axes filled in.
    """
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for tensor in component.graph.inputs:
        shape = shape_of(tensor, axes)
        if tensor.name == "low_res":
            values = waves(shape)
        elif tensor.name == "x_t":
            values = np.sqrt(0.5) * (waves(shape) + rng.standard_normal(shape))
        elif tensor.name == "t":
            values = np.full(shape, 0.5)
        else:
            # Token numbers 0 and 1: every vocabulary has them.
            values = rng.random(shape) * (1 if tensor.dtype == "float32" else 2)
        inputs[tensor.name] = values.astype(tensor.dtype)
    return inputs


def waves(shape: tuple[int, ...]) -> Array:
    """Smooth pictures, `[B, C, H, W]` float64 in [-1, 1], every one and every colour another."""
    batch, channels, height, width = shape
    phase = np.arange(batch)[:, None] + np.arange(channels)[None, :] / channels
    down, along = (np.linspace(0, 2 * np.pi, size) for size in (height, width))
    slope = down[:, None] + along[None, :]
    picture: Array = np.sin(phase[:, :, None, None] + slope)
    return picture


def dummy_handoff(manifest: Manifest, position: int, *, tokens: int) -> Handoff:
    """What the component at a position starts from.

    Args:
        manifest: of the bundle.
        position: of the component.
        tokens: length of the context, where the component's graph leaves it open.
    """
    component = manifest.components[position]
    if isinstance(component, TextEncoderSpec):
        return Handoff(prompt="a")
    (shape,) = [tensor.shape for tensor in component.graph.inputs if tensor.name == "context"]
    fixed = shape[-2]
    length = fixed if isinstance(fixed, int) else tokens
    context = np.zeros((length, manifest.text_encoder.context_width), np.float16)
    size = component.input_resolution
    image = None if size is None else np.full((size, size, 3), 255, np.uint8)
    return Handoff(context=context, image=image)
