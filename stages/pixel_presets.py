"""The stages that make pictures by groups of pixels, as data: networks, orders, training."""

from dataclasses import dataclass
from itertools import product

from stages.networks.pixel_network import PixelNetConfig, PixelNetwork

GIVEN = -1
"""In an order: the parent gives this pixel."""
CHECKERBOARD_16 = (0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5)
"""Sixteen groups of a 4x4 cell, balanced at every prefix."""
SUBSAMPLED = (GIVEN, 1, 2, 0)
"""Three groups of a 2x2 cell whose corner is the parent's: the diagonal, then right, then below."""
COLUMNS_ROWS = (GIVEN, 0, 1, 1)
"""New columns, then all of the new rows."""
AT_ONCE = (GIVEN, 0, 0, 0)
"""The independent baseline: everything in one pass."""
PARENTS = tuple((dy, dx) for dy, dx in product((-1, 0, 1), repeat=2))
AROUND = tuple(place for place in PARENTS if place != (0, 0))
AROUND_TWO = tuple((dy, dx) for dy, dx in product(range(-2, 3), repeat=2) if (dy, dx) != (0, 0))
"""The parent's pixel of a cell with those around, and neighbours near and far, in rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelPreset:
    """How one stage is built and trained."""

    name: str
    resolution: int
    """Height and width of its picture."""
    low_resolution: int | None
    """Of its parent, every second pixel of the picture; None for the first stage."""
    period: int
    order: tuple[int, ...]
    """Group of each pixel of a `period` x `period` cell, row by row; `GIVEN` by the parent."""
    parent_copies: tuple[tuple[int, int], ...]
    """Candidates on the parent's grid, as (dy, dx) from the cell's own."""
    canvas_copies: tuple[tuple[int, int], ...]
    """Candidates among the known pixels, as (dy, dx) from the target."""
    width: int
    blocks: int
    batch: int
    crop: int
    """Height and width of most training samples; whole pictures where it is `resolution`."""
    positions: bool = False
    exact: bool = True
    context_width: int = 384
    learning_rate: float = 2e-3

    @property
    def passes(self) -> int:
        """Number of groups."""
        return max(self.order) + 1

    @property
    def factor(self) -> int:
        """Of the picture to its parent; 1 for the first stage."""
        return 1 if self.low_resolution is None else self.resolution // self.low_resolution

    @property
    def config(self) -> PixelNetConfig:
        """Of its networks."""
        return PixelNetConfig(
            resolution=self.resolution,
            cell=self.factor,
            has_parent=self.low_resolution is not None,
            width=self.width,
            blocks=self.blocks,
            passes=self.passes,
            candidates=len(self.parent_copies) + len(self.canvas_copies),
            positions=self.positions,
            exact=self.exact,
            context_width=self.context_width,
        )

    def network(self) -> PixelNetwork:
        """The networks with random weights."""
        return PixelNetwork(self.config)


def upscaler(  # noqa: PLR0913  what differs between the stages
    name: str,
    resolution: int,
    *,
    width: int,
    blocks: int,
    batch: int,
    crop: int,
    positions: bool = False,
    order: tuple[int, ...] = SUBSAMPLED,
) -> PixelPreset:
    """A stage that doubles a picture of which it keeps every pixel."""
    return PixelPreset(
        name=name,
        resolution=resolution,
        low_resolution=resolution // 2,
        period=2,
        order=order,
        parent_copies=PARENTS,
        canvas_copies=AROUND,
        width=width,
        blocks=blocks,
        batch=batch,
        crop=crop,
        positions=positions,
    )


PX8 = PixelPreset(
    name="px8", resolution=8, low_resolution=None, period=4, order=CHECKERBOARD_16,
    parent_copies=(), canvas_copies=AROUND_TWO, width=96, blocks=4, batch=96, crop=8,
    positions=True,
)  # fmt: skip
PX16 = upscaler("px16", 16, width=96, blocks=4, batch=64, crop=16, positions=True)
PX32 = upscaler("px32", 32, width=64, blocks=5, batch=32, crop=32)
PX64 = upscaler("px64", 64, width=64, blocks=5, batch=24, crop=32)
PIXEL_PRESETS = {preset.name: preset for preset in (PX8, PX16, PX32, PX64)}
