"""Where tiles lie, and that they are joined without a trace where they agree."""

import numpy as np
import pytest

from cascade.diffusion.tiles import TiledEngine, Tiling, on_canvas
from cascade.numerics.tile_joins import TiledSide, put, side
from cascade.types import Array


@pytest.mark.parametrize(
    ("size", "tile", "grain", "expected"),
    [
        (3, 8, 4, TiledSide(8, 8, (0,))),
        (8, 8, 4, TiledSide(8, 8, (0,))),
        (9, 8, 4, TiledSide(12, 8, (0, 4))),
        (64, 32, 32, TiledSide(64, 32, (0, 16, 32))),
        (1100, 1024, 32, TiledSide(1120, 1024, (0, 96))),
        (3000, 1024, 32, TiledSide(3008, 1024, (0, 768, 1536, 1984))),
    ],
)
def test_tiles_cover_a_side(size: int, tile: int, grain: int, expected: TiledSide) -> None:
    """From the first pixel to the last, each beginning on the grain."""
    assert side(size, tile, grain) == expected


class Blur:
    """Mean over 3x3 with zeros beyond the end, as a convolution pads."""

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Blurred `x_t`."""
        x = np.pad(inputs["x_t"], ((0, 0), (0, 0), (1, 1), (1, 1)))
        rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
        return {"prediction": rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]}

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""


def test_tiled_runs_equal_one_run() -> None:
    """To the bit, for the network's reach is smaller than the rim that is left out."""
    x = np.random.default_rng(0).standard_normal((2, 3, 24, 40)).astype(np.float32)
    tiled = TiledEngine(Blur(), Tiling(side(24, 16, 4), side(40, 16, 4)))
    found = tiled.run({"x_t": x, "t": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(found["prediction"], Blur().run({"x_t": x})["prediction"])


def test_tiles_that_differ_fade_into_each_other() -> None:
    """A quarter of the overlap each keeps, and the weights between rise evenly."""
    out = np.zeros((1, 1, 12, 1), np.float32)
    put(out, np.ones((1, 1, 8, 1), np.float32), 4, 12)
    np.testing.assert_allclose(
        out[0, 0, :, 0], [0, 0, 0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    )


def test_a_canvas_continues_what_it_holds() -> None:
    """The picture's edge, and the noise from its beginning."""
    row = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    tiling = Tiling(TiledSide(1, 1, (0,)), TiledSide(5, 5, (0,)))
    assert on_canvas(row, tiling, "edge").ravel().tolist() == [0, 1, 2, 2, 2]
    assert on_canvas(row, tiling, "wrap").ravel().tolist() == [0, 1, 2, 0, 1]
