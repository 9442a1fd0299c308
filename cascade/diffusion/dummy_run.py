"""A diffusion stage's run that means nothing: smooth pictures halfway to noise, for one step.

Knows the record; what uses it tries, times or warms up engines.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.graph_spec import NET
from cascade.request import FamilyOptions, Handoff
from cascade.start_inputs import blank_start
from cascade.types import Array
from cascade.vectors import blank_vectors


class DiffusionDummyRun:
    """See `cascade.family.DummyRun`."""

    def axes(self, spec: DiffusionSpec, *, batch: int, tokens: int) -> dict[str, int]:
        """Rows, tokens and the size of its picture."""
        sizes = {"height": spec.makes.height, "width": spec.makes.width}
        return {"batch": batch, "tokens": tokens, **sizes}

    def rows(self, spec: DiffusionSpec) -> int:
        """Guidance doubles the rows, unless the network was taught it."""
        return 1 if spec.guidance.taught or spec.guidance.weight == 1.0 else 2

    def inputs(self, spec: DiffusionSpec, role: str, axes: Mapping[str, int]) -> dict[str, Array]:
        """Smooth pictures, and noisy ones halfway to noise, as a denoising step sees them.

        An 8-bit graph is right only within the range that it was made for. Shapes and dtypes are
        the graph's.
        """
        rng = np.random.default_rng(0)
        inputs: dict[str, Array] = {}
        for tensor in spec.graphs[role].inputs:
            shape = tensor.shape_with(axes)
            if tensor.name == "low_res":
                values = waves(shape)
            elif tensor.name == "x_t":
                values = np.sqrt(0.5) * (waves(shape) + rng.standard_normal(shape))
            elif tensor.name == "t":
                values = np.full(shape, 0.5)
            else:
                values = rng.random(shape) * (1 if tensor.dtype == "float32" else 2)
            inputs[tensor.name] = values.astype(tensor.dtype)
        return inputs

    def start(self, spec: DiffusionSpec, *, tokens: int) -> Handoff:
        """Embeddings of zeros, and a white picture."""
        start = blank_start(spec.graphs[NET], spec.starts_from, tokens)
        return replace(start, vectors=blank_vectors(spec.vectors))

    def options(self, spec: DiffusionSpec) -> FamilyOptions:
        """One step."""
        del spec
        return DiffusionOptions(steps=1)


def waves(shape: tuple[int, ...]) -> Array:
    """Smooth pictures, `[B, C, H, W]` float64 in [-1, 1], every one and every colour another."""
    batch, channels, height, width = shape
    phase = np.arange(batch)[:, None] + np.arange(channels)[None, :] / channels
    down, along = (np.linspace(0, 2 * np.pi, size) for size in (height, width))
    slope = down[:, None] + along[None, :]
    picture: Array = np.sin(phase[:, :, None, None] + slope)
    return picture
