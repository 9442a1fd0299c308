"""A label encoder's run that means nothing: the first class.

Knows the record; what uses it tries, times or warms up engines.
"""

from collections.abc import Mapping

import numpy as np

from cascade.labels.request_options import LabelOptions
from cascade.labels.spec import LabelEncoderSpec
from cascade.request import FamilyOptions, Handoff
from cascade.types import Array


class LabelDummyRun:
    """See `cascade.family.DummyRun`."""

    def axes(self, spec: LabelEncoderSpec, *, batch: int, tokens: int) -> dict[str, int]:
        """Rows, and the tokens of every context."""
        del tokens
        return {"batch": batch, "tokens": spec.tokens}

    def rows(self, spec: LabelEncoderSpec) -> int:
        """One label at a time."""
        del spec
        return 1

    def inputs(
        self, spec: LabelEncoderSpec, role: str, axes: Mapping[str, int]
    ) -> dict[str, Array]:
        """The first class, which every cascade has; shapes and dtypes are the graph's."""
        return {
            tensor.name: np.zeros(tensor.shape_with(axes), tensor.dtype)
            for tensor in spec.graphs[role].inputs
        }

    def start(self, spec: LabelEncoderSpec, *, tokens: int) -> Handoff:
        """The first class."""
        del spec, tokens
        return Handoff(label=0)

    def options(self, spec: LabelEncoderSpec) -> FamilyOptions:
        """None."""
        del spec
        return LabelOptions()
