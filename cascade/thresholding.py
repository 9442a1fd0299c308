"""Thresholding: keep the estimate of the clean image in the range of images.

Both forms wrap a denoiser and are denoisers. They know estimates only.

References:
    Saharia et al. 2022 (arXiv 2205.11487), section 2.3 and figure A.10.
"""

from dataclasses import dataclass

import numpy as np

from cascade.denoiser import Denoiser
from cascade.types import Batch, PerSample


@dataclass(frozen=True, slots=True)
class StaticThreshold:
    """Clip the estimate to [-1, 1]."""

    inner: Denoiser

    def __call__(self, x_t: Batch, t: PerSample) -> Batch:
        """The inner estimate, clipped."""
        return np.clip(self.inner(x_t, t), -1.0, 1.0)


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

    def __call__(self, x_t: Batch, t: PerSample) -> Batch:
        """The inner estimate, each image scaled back by its own k."""
        x0 = self.inner(x_t, t)
        k = np.quantile(np.abs(x0).reshape(len(x0), -1), self.percentile, axis=1)
        k = np.clip(k, 1.0, self.cap)[:, None, None, None].astype(np.float32)
        return np.asarray(np.clip(x0, -k, k) / k)
