"""An autoencoder's run that means nothing: noise of half the usual strength.

Knows the record; what uses it tries, times or warms up engines.
"""

from collections.abc import Mapping

import numpy as np

from cascade.latents.request_options import AutoencoderOptions
from cascade.latents.spec import AutoencoderSpec
from cascade.request import FamilyOptions, Handoff
from cascade.start_inputs import blank_start
from cascade.types import Array


class AutoencoderDummyRun:
    """See `cascade.family.DummyRun`."""

    def axes(self, spec: AutoencoderSpec, *, batch: int, tokens: int) -> dict[str, int]:
        """Rows; the sides are the graph's own."""
        del spec, tokens
        return {"batch": batch}

    def rows(self, spec: AutoencoderSpec) -> int:
        """One picture at a time."""
        del spec
        return 1

    def inputs(self, spec: AutoencoderSpec, role: str, axes: Mapping[str, int]) -> dict[str, Array]:
        """Noise; shapes and dtypes are the graph's."""
        rng = np.random.default_rng(0)
        return {
            tensor.name: (0.5 * rng.standard_normal(tensor.shape_with(axes))).astype(tensor.dtype)
            for tensor in spec.graphs[role].inputs
        }

    def start(self, spec: AutoencoderSpec, *, tokens: int) -> Handoff:
        """A white picture, or a latent of zeros."""
        beside = [value for value in spec.starts_from if value.kind != "context"]
        return blank_start(spec.graph, beside, tokens)

    def options(self, spec: AutoencoderSpec) -> FamilyOptions:
        """None."""
        del spec
        return AutoencoderOptions()
