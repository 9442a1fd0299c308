"""Denoisers: from a noisy image and its time to an estimate of the clean image.

Whatever a network predicts, a sampler sees only `(x_t, t) -> x0`. Guidance and thresholding wrap a
denoiser and are denoisers. This module knows one engine and one bound conditioning; not samplers,
noise or where the conditioning came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cascade.engines.engine import Engine
from cascade.errors import StageError
from cascade.parametrization import Prediction, to_x0
from cascade.schedule import Schedule
from cascade.types import Array, Batch, PerSample


@runtime_checkable
class Denoiser(Protocol):
    """An estimate of the clean images `x0` behind noisy ones."""

    def __call__(self, x_t: Batch, t: PerSample) -> Batch:
        """Estimate `x0`.

        Args:
            x_t: noisy images, `[B, 3, H, W]`.
            t: their times in [0, 1], `[B]`.

        Returns:
            `[B, 3, H, W]`, not yet clipped.
        """
        ...


def per_image(values: Array) -> Array:
    """`[B]` shaped to broadcast against `[B, 3, H, W]`, float32."""
    return np.asarray(values, np.float32)[:, None, None, None]


@dataclass(frozen=True, slots=True)
class EngineDenoiser:
    """A denoiser that runs an exported graph on fixed conditioning.

    Attributes:
        engine: runs the graph of design section 6 (`x_t`, `t`, the conditioning -> `prediction`).
        schedule: what `t` means.
        prediction: what the output is.
        conditioning: the graph's other inputs, batch axis first.
    """

    engine: Engine
    schedule: Schedule
    prediction: Prediction
    conditioning: Mapping[str, Array]

    def __call__(self, x_t: Batch, t: PerSample) -> Batch:
        """Run the graph once and convert its prediction to `x0`."""
        outputs = self.engine.run({"x_t": x_t, "t": np.asarray(t, np.float32), **self.conditioning})
        prediction = outputs["prediction"]
        if prediction.shape != x_t.shape:
            raise StageError(f"prediction: expected shape {x_t.shape}, got {prediction.shape}")
        times = np.asarray(t, np.float64)
        alpha, sigma = per_image(self.schedule.alpha(times)), per_image(self.schedule.sigma(times))
        return np.asarray(to_x0(self.prediction, prediction, x_t, alpha, sigma), np.float32)
