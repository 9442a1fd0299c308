"""How good a picture is: distances between pictures, with and without a ground truth.

Functions of pixels alone; they know no stage, data set or network.

References:
    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13(4), for SSIM with its Gaussian window.
"""

from collections.abc import Sequence

import numpy as np

from cascade.types import Array, ImageU8
from stages.dataset import box_average

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr_db(image: Array, reference: Array, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels; infinite for equal arrays."""
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def blurred(image: Array) -> Array:
    """`[H, W, C]` under the Gaussian window of SSIM, without the border where it does not fit."""
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).astype(image.dtype)
    for axis in (0, 1):
        size = image.shape[axis] - 2 * SSIM_RADIUS
        parts = (w * np.take(image, range(k, k + size), axis=axis) for k, w in enumerate(window))
        image = sum(parts, start=np.zeros((), image.dtype))
    return image


def ssim(image: ImageU8, reference: ImageU8) -> float:
    """Structural similarity, mean over positions and colours; 1 for equal pictures.

    Args:
        image: `[H, W, 3]` uint8, 11 pixels or more on each side.
        reference: of the same shape.
    """
    x, y = image.astype(np.float32) / 255, reference.astype(np.float32) / 255
    mean_x, mean_y = blurred(x), blurred(y)
    variance_x = blurred(x * x) - mean_x**2
    variance_y = blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure, dtype=np.float64))


def sharpness(image: ImageU8) -> float:
    """Root mean square of the differences between neighbouring pixels, in levels of 255."""
    values = image.astype(np.float64)
    across, down = np.diff(values, axis=1), np.diff(values, axis=0)
    return float(np.sqrt(0.5 * (np.mean(across**2) + np.mean(down**2))))


def consistency_db(large: ImageU8, small: ImageU8) -> float:
    """PSNR between a picture and what a super-resolution stage made of it, averaged back down."""
    return psnr_db(box_average(large, large.shape[0] // small.shape[0]), small)


def distance(one: ImageU8, other: ImageU8) -> float:
    """Root mean square difference of two pictures, in levels of 255."""
    return float(np.sqrt(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)))


def diversity(pictures: Sequence[ImageU8]) -> float:
    """Mean distance of all pairs: how much the seed changes."""
    pairs = [distance(a, b) for i, a in enumerate(pictures) for b in pictures[:i]]
    return float(np.mean(pairs))


def nearest(picture: ImageU8, others: Sequence[ImageU8]) -> tuple[int, float]:
    """Which of the others is closest, and its distance."""
    stack = np.stack(others).reshape(len(others), -1).astype(np.float32)
    square = ((stack - picture.reshape(1, -1).astype(np.float32)) ** 2).mean(axis=1)
    best = int(square.argmin())
    return best, float(np.sqrt(square[best]))
