"""Thresholding: keep the estimate of the clean image in the range of images.

Both forms wrap a denoiser and are denoisers. They know estimates only.

References:
    Saharia et al. 2022 (arXiv 2205.11487), section 2.3 and figure A.10.
"""

from dataclasses import dataclass, replace

import numpy as np

from cascade.diffusion.denoiser import Denoiser, Estimate
from cascade.diffusion.spec import ThresholdSpec
from cascade.numerics.chunked import chunks
from cascade.numerics.percentile import magnitude_percentile
from cascade.types import Array, Batch, PerSample


@dataclass(frozen=True, slots=True)
class StaticThreshold:
    """Clip the estimate to [-bound, bound]."""

    inner: Denoiser
    bound: float = 1.0

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The inner estimate, clipped."""
        estimate = self.inner(x_t, t)
        np.clip(estimate.x0, -self.bound, self.bound, out=estimate.x0)
        return estimate


@dataclass(frozen=True, slots=True)
class DynamicThreshold:
    """Clip to [-k, k] and divide by k, where k is a percentile of the magnitudes, never below 1.

    Attributes:
        inner: the denoiser to wrap.
        percentile: share of the magnitudes that stays unclipped, 0 to 1 (Imagen: 0.995).
        cap: upper bound of k, None for none (DeepFloyd IF: 1.5 and 1.0).
    """

    inner: Denoiser
    percentile: float = 0.995
    cap: float | None = None

    def __call__(self, x_t: Batch, t: PerSample) -> Estimate:
        """The inner estimate, each image scaled back by its own k; in its own memory."""
        estimate = self.inner(x_t, t)
        # For the one line per image below; a copy only where an engine hands out strides.
        x0 = np.ascontiguousarray(estimate.x0)
        for image in x0:
            line = image.reshape(-1)
            percentile, largest = magnitude_percentile(line, self.percentile)
            # Never below 1: an image in range stays as it is, contrast is not stretched.
            k = max(1.0, percentile)
            if self.cap is not None:
                k = min(k, self.cap)
            # Otherwise clipping and dividing would leave every bit as it is, at a pass over the
            # memory.
            if largest > 1 or k != 1:
                scale_back(line, np.float32(k))
        return replace(estimate, x0=x0)


def scale_back(values: Array, k: np.float32) -> None:
    """A line of values becomes `clip(values, -k, k) / k`, in place.

    Args:
        values: `[n]` float32, changed; afterwards in [-1, 1] where `k` is at least 1.
        k: above 0.
    """
    for part in chunks(len(values)):
        clipped = np.clip(values[part], -k, k, out=values[part])
        if k != 1:
            np.divide(clipped, k, out=clipped)


def thresholded(inner: Denoiser, spec: ThresholdSpec) -> Denoiser:
    """A denoiser inside the thresholding that a manifest names."""
    if spec.kind == "dynamic":
        return DynamicThreshold(inner, spec.percentile, spec.cap)
    return StaticThreshold(inner, spec.bound) if spec.kind == "static" else inner
