"""How good a picture is: distances between pictures, with and without a ground truth.

Functions of pixels alone; they know no stage, data set or network.

References:
    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13(4), for SSIM with its Gaussian window.
"""

from collections.abc import Sequence

import numpy as np

from cascade.types import Array, ImageU8
from stages.data.dataset import box_average

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
SSIM_STRIP = 32
"""Rows of the result worked out at a time."""


def psnr_db(image: Array, reference: Array, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels; infinite for equal arrays.

    Args:
        image: of any shape and number type, as the reference.
        reference: the true picture, `[H, W, 3]` in levels of 255 unless `peak` says otherwise.
        peak: range of the values.
    """
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    # In double precision: squares of bytes, summed over a megapixel, exceed what float32 counts
    # exactly.
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def blurred(image: Array) -> Array:
    """`[H, W, C]` under the Gaussian window of SSIM, without the border where it does not fit."""
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).astype(image.dtype)
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        size = len(lines) - 2 * SSIM_RADIUS
        total = window[SSIM_RADIUS] * lines[SSIM_RADIUS : SSIM_RADIUS + size]
        for k in range(SSIM_RADIUS):
            far = 2 * SSIM_RADIUS - k
            # The window is even: half the products.
            total += window[k] * (lines[k : k + size] + lines[far : far + size])
        image = np.moveaxis(total, 0, axis)
    return image


def ssim(image: ImageU8, reference: ImageU8) -> float:
    """Structural similarity, mean over positions and colours; 1 for equal pictures.

    Works in strips that stay near the processor: whole 1024x1024 pictures take three times as long.

    Args:
        image: `[H, W, 3]` uint8, 11 pixels or more on each side.
        reference: of the same shape.
    """
    edge = 2 * SSIM_RADIUS
    total, count = 0.0, 0
    # Strips overlap by the window, so that every position is worked out once, with all its
    # neighbours.
    for top in range(0, len(image) - edge, SSIM_STRIP):
        rows = slice(top, top + SSIM_STRIP + edge)
        found = ssim_map(image[rows], reference[rows])
        total, count = total + float(found.sum(dtype=np.float64)), count + found.size
    return total / count


def ssim_map(image: ImageU8, reference: ImageU8) -> Array:
    """Structural similarity at every position where the window fits, `[H - 10, W - 10, 3]`."""
    x, y = image.astype(np.float32) / 255, reference.astype(np.float32) / 255
    mean_x, mean_y = blurred(x), blurred(y)
    # Population statistics under the window; Wang's K keep the quotient away from 0 / 0.
    variance_x = blurred(x * x) - mean_x**2
    variance_y = blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance * structure


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


def off_white(picture: ImageU8) -> float:
    """How far the outermost two pixels all around are from white, mean, in levels of 255."""
    away = 255.0 - picture
    # Whole rows, and columns without them: corners count once.
    edges = (away[:2], away[-2:], away[2:-2, :2], away[2:-2, -2:])
    return float(sum(edge.sum() for edge in edges) / sum(edge.size for edge in edges))


def chroma(picture: ImageU8) -> float:
    """Mean distance of the strongest colour channel from the weakest, in levels of 255."""
    return float(np.mean(picture.max(axis=2).astype(np.float64) - picture.min(axis=2)))
