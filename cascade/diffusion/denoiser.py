"""Denoisers: from a noisy image and its time to an estimate of the clean image.

Whatever a network predicts, a sampler sees only `(x_t, t) -> Estimate`. Guidance and thresholding
wrap a denoiser and are denoisers. This module knows one engine and one bound conditioning; not
samplers, noise or where the conditioning came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cascade.diffusion.parametrization import Prediction, x0_weights
from cascade.diffusion.schedule import Schedule
from cascade.engine import Engine
from cascade.errors import StageError
from cascade.numerics.chunked import weighted_sum
from cascade.numerics.finite import is_finite
from cascade.types import Array, Batch, PerSample, Times


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a denoiser has to say about one batch.

    Attributes:
        x0: the clean images, `[B, 3, H, W]`, not yet clipped; in memory that nobody else looks at,
            so that thresholding may work in place.
        variance: where between the posterior's bounds the variance lies, per pixel, as the network
            learned it: -1 the lower, 1 the upper, and beyond; `[B, 3, H, W]`. None where the
            network learned none.
    """

    x0: Batch
    variance: Batch | None = None


@runtime_checkable
class Denoiser(Protocol):
    """An estimate of the clean images `x0` behind noisy ones."""

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """Estimate `x0`.

        Args:
            x_t: noisy images, `[B, 3, H, W]`.
            t: their times in [0, 1], `[B]`.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineDenoiser:
    """A denoiser that runs an exported graph on fixed conditioning.

    Attributes:
        engine: runs the graph of design section 6: `x_t`, `t`, the conditioning -> `prediction`
            and, where a network learned one, `variance`.
        schedule: what `t` means.
        prediction: what the output is.
        conditioning: the graph's other inputs, batch axis first.
    """

    engine: Engine
    schedule: Schedule
    prediction: Prediction
    conditioning: Mapping[str, Array]

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """Run the graph once and convert its prediction to `x0`.

        Raises:
            StageError: the noisy images or the estimate hold NaN or infinity, or an output has
                another shape.
        """
        check_finite("x_t", x_t)
        outputs = self.engine.run({"x_t": x_t, "t": np.asarray(t, np.float32), **self.conditioning})
        prediction, variance = outputs["prediction"], outputs.get("variance")
        for name, value in (("prediction", prediction), ("variance", variance)):
            if value is not None and value.shape != x_t.shape:
                raise StageError(f"{name}: expected shape {x_t.shape}, got {value.shape}")
        # The schedule in double precision, the pictures in single: a scale is one number, a picture
        # a million.
        times = np.asarray(t, np.float64)
        alpha, sigma = self.schedule.alpha(times), self.schedule.sigma(times)
        x0 = x0_of(self.prediction, prediction, x_t, alpha, sigma)
        check_finite("prediction", x0)
        return Estimate(x0, variance)


def check_finite(name: str, images: Batch) -> None:
    """Refuse what is no picture, on both sides of an engine.

    Its output alone would be no alarm: 8-bit graphs, and OpenVINO's Clip and Max, make ordinary
    numbers of NaN; and thresholding, which comes next, makes one of infinity.

    Args:
        name: of the tensor, for the error.
        images: `[B, 3, H, W]` float32.

    Raises:
        StageError: naming the tensor.
    """
    if not is_finite(images):
        raise StageError(
            f"{name}: holds NaN or infinity: the network overflowed, in this step or the one "
            "before; try another precision or engine, or less guidance",
            field=name,
        )


def x0_of(kind: Prediction, prediction: Batch, x_t: Batch, alpha: Times, sigma: Times) -> Batch:
    """`to_x0` of whole batches, in chunks.

    Args:
        kind: what `prediction` is.
        prediction: `[B, 3, H, W]` float32.
        x_t: `[B, 3, H, W]` float32.
        alpha: signal scale, `[B]` float64, above 0.
        sigma: noise scale, `[B]` float64.

    Returns:
        `[B, 3, H, W]` float32, not clipped, in memory of its own.
    """
    if kind == "x0":
        return np.array(prediction, np.float32)  # the engine may keep its outputs
    from_x_t, from_prediction = x0_weights(kind, alpha, sigma)
    return weighted_sum((from_x_t, x_t), (from_prediction, prediction))
