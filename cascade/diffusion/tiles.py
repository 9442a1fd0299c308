"""Pictures of other sizes than a graph was made for: the canvas that is sampled, and its tiles.

A sampler works on the whole canvas, with noise that is addressed by the pixel; only the network is
shown tiles, which overlap and are joined again after every run. Where a network sees no further
than the discarded rim of a tile the result is that of one run, to the bit. Knows sizes and one
engine; not what a network predicts.

References:
    Bar-Tal et al. 2023, "MultiDiffusion" (arXiv 2302.08113): one sampling process over tiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd, lcm

import numpy as np

from cascade.diffusion.spec import DiffusionSpec
from cascade.engine import Engine
from cascade.numerics.tile_joins import TiledSide, put, side
from cascade.types import Array

GRAIN = 32
"""Free heights and widths are multiples of this, or of the declared size's own power of two."""
SPLIT_INPUTS = ("x_t", "low_res")
"""Inputs of a graph that are pictures: of the output's size, or a whole number of times smaller."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a picture is shown to a network."""

    height: TiledSide
    width: TiledSide

    @property
    def count(self) -> int:
        """Runs of the network for one step."""
        return len(self.height.starts) * len(self.width.starts)

    @property
    def tile_pixels(self) -> int:
        """Of one run."""
        return self.height.tile * self.width.tile

    def shown(self, factor: int) -> "Tiling":
        """The same tiles of a picture that is `factor` times smaller: see `shown_factor`."""
        sides = (
            TiledSide(s.length // factor, s.tile // factor, tuple(at // factor for at in s.starts))
            for s in (self.height, self.width)
        )
        return Tiling(*sides)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width that are sampled; what lies beyond the picture is cut off."""
        return self.height.length, self.width.length


def tiling_of(spec: DiffusionSpec, width: int, height: int) -> Tiling:
    """How a stage is shown a picture; the same on every machine, for it is part of the picture.

    A graph with free sides runs once, as long as the canvas has no more pixels than the stage's
    declared picture; its memory is known to suffice. Everything else is made of tiles of the
    declared size.

    Args:
        spec: the stage's entry.
        width: of the picture that it makes, in pixels.
        height: of it.
    """
    made = spec.makes
    if (width, height) == (made.width, made.height):
        return Tiling(TiledSide(height, height, (0,)), TiledSide(width, width, (0,)))
    both = gcd(made.width, made.height)
    unit = shown_factor(spec)
    grain = lcm(min(GRAIN, both & -both), unit)
    tall, wide = (-(-size // grain) * grain for size in (height, width))
    if not has_free_sides(spec):
        return Tiling(side(height, made.height, grain, unit), side(width, made.width, grain, unit))
    if tall * wide <= made.pixels:
        return Tiling(TiledSide(tall, tall, (0,)), TiledSide(wide, wide, (0,)))
    return Tiling(
        side(height, min(tall, made.height), grain), side(width, min(wide, made.width), grain)
    )


def has_free_sides(spec: DiffusionSpec) -> bool:
    """Whether a stage's graph takes pictures of any height and width."""
    (shape,) = [tensor.shape for tensor in spec.graph.inputs if tensor.name == "x_t"]
    return all(isinstance(axis, str) for axis in shape[2:])


def shown_factor(spec: DiffusionSpec) -> int:
    """How many pixels of the made picture one of `low_res` stands for, along one side."""
    return spec.makes.width // spec.low.width if spec.low and spec.enlarge == "none" else 1


@dataclass(frozen=True, slots=True)
class TiledEngine:
    """An engine for pictures of any size, made of one for tiles.

    Attributes:
        engine: runs the graph.
        tiling: of the pictures.
    """

    engine: Engine
    tiling: Tiling

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run tile by tile; outputs are pictures of the canvas, `[B, C, H, W]` float32."""
        tall, wide = self.tiling.height, self.tiling.width
        whole: dict[str, Array] = {}
        before = 0
        for top in tall.starts:
            strips: dict[str, Array] = {}
            end = 0
            for left in wide.starts:
                rows, columns = slice(top, top + tall.tile), slice(left, left + wide.tile)
                for name, part in self.engine.run(tile_of(inputs, rows, columns)).items():
                    shape = (*part.shape[:2], tall.tile, wide.length)
                    strip = strips.setdefault(name, np.empty(shape, np.float32))
                    put(strip.swapaxes(2, 3), part.swapaxes(2, 3), left, end)
                end = left + wide.tile
            for name, strip in strips.items():
                shape = (*strip.shape[:2], *self.tiling.canvas)
                put(whole.setdefault(name, np.empty(shape, np.float32)), strip, top, before)
            before = top + tall.tile
        return whole

    def terminate(self) -> None:
        """End the run in progress."""
        self.engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()


def tile_of(inputs: Mapping[str, Array], rows: slice, columns: slice) -> dict[str, Array]:
    """The inputs of one tile.

    Args:
        inputs: of the whole canvas, pictures `[B, C, H, W]` float32.
        rows: of the tile.
        columns: of the tile.

    Returns:
        The same, pictures `[B, C, h, w]` float32 of the tile, contiguous.
    """
    tall = inputs["x_t"].shape[2]

    def cut(picture: Array) -> Array:
        factor = tall // picture.shape[2]
        down, along = (slice(s.start // factor, s.stop // factor) for s in (rows, columns))
        return np.ascontiguousarray(picture[:, :, down, along])

    return {n: cut(value) if n in SPLIT_INPUTS else value for n, value in inputs.items()}


def on_canvas(pictures: Array, tiling: Tiling, mode: str) -> Array:
    """Pictures continued to the right and below, up to the canvas.

    Args:
        pictures: `[B, C, H, W]` float32.
        tiling: names the canvas.
        mode: of `np.pad`: `edge` for pictures, `wrap` for noise.

    Returns:
        `[B, C, height, width]` float32; the pictures themselves where they fill it.
    """
    missing = [have - want for have, want in zip(tiling.canvas, pictures.shape[2:], strict=True)]
    if not any(missing):
        return pictures
    below, right = missing
    return np.pad(pictures, ((0, 0), (0, 0), (0, below), (0, right)), mode=mode)  # type: ignore[call-overload,no-any-return]
