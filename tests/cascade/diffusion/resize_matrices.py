"""Enlargement as a product with a matrix, in double precision: the slow truth for tests."""

import numpy as np

from cascade.diffusion.conditioning import UpsampleKind, cubic_kernel
from cascade.types import Array


def cubic_matrix(size: int, factor: int) -> Array:
    """`[size * factor, size]`: one axis of cubic enlargement, centres aligned, edges repeated."""
    centres = (np.arange(size * factor) + 0.5) / factor - 0.5
    matrix = np.zeros((size * factor, size))
    base = np.floor(centres).astype(int)
    for tap in range(-1, 3):
        column = np.clip(base + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(size * factor), column), cubic_kernel(centres - base - tap))
    return matrix


def corner_matrix(size: int, factor: int) -> Array:
    """`[size * factor, size]`: one axis of linear enlargement, corner pixels on corner pixels."""
    places = np.arange(size * factor) * ((size - 1) / max(size * factor - 1, 1))
    below = np.clip(np.floor(places).astype(int), 0, max(size - 2, 0))
    matrix = np.zeros((size * factor, size))
    rows = np.arange(size * factor)
    matrix[rows, below] = 1 - (places - below)
    matrix[rows, np.minimum(below + 1, size - 1)] += places - below
    return matrix


def enlarged_by_matrices(images: Array, factor: int, kind: UpsampleKind) -> Array:
    """Both axes, float64."""
    matrix = {"cubic": cubic_matrix, "bilinear_corners": corner_matrix}[kind]
    height, width = images.shape[2:]
    whole: Array = matrix(height, factor) @ images.astype(np.float64) @ matrix(width, factor).T
    return whole
