"""The stages that make pictures by groups of pixels, as data: networks, orders, training."""

from dataclasses import dataclass, replace
from itertools import product

from cascade.pixels.order import OrderSpec, checkerboard, squares, subscale_raster
from cascade.pixels.scheme import PassScheme
from cascade.pixels.weights import UNIT_SIXTEENTHS
from stages.networks.pixel_network import CHANNELS, PixelNetConfig, PixelNetwork
from stages.networks.subscale_network import AnyPixelNetwork, SubscaleNetwork

PARENTS = tuple((dy, dx) for dy, dx in product((-1, 0, 1), repeat=2))
AROUND = tuple(place for place in PARENTS if place != (0, 0))
AROUND_TWO = tuple((dy, dx) for dy, dx in product(range(-2, 3), repeat=2) if (dy, dx) != (0, 0))
"""The parent's pixel of a cell with those around, and neighbours near and far, in rows."""
FIRST = PassScheme(parent="none", order=checkerboard(4, 16), guess="zero", canvas_copies=AROUND_TWO)
"""Sixteen groups of a 4x4 cell, balanced at every prefix."""
DOUBLED = PassScheme(
    parent="subsample",
    order=squares("subsample"),
    guess="parent",
    parent_copies=PARENTS,
    canvas_copies=AROUND,
)
"""Three groups of a 2x2 cell whose corner is the parent's: the diagonal, then right, then below."""

AVERAGED = PassScheme(
    parent="box",
    order=squares("box"),
    guess="cell",
    parent_copies=PARENTS,
    canvas_copies=AROUND,
    keep_mean=True,
)
"""Four groups of a 2x2 cell whose mean is the parent's pixel and stays it: behind a diffusion base,
whose pictures are means."""


def sliced(size: int, period: int, *, given: bool = False) -> PassScheme:
    """A subscale stage as its paper has it: slices, raster inside, 3 bits before 5, no copies.

    Args:
        size: height and width of the picture.
        period: of the slices.
        given: the first slice is the parent: size upscaling.
    """
    return PassScheme(
        parent="subsample" if given else "none",
        order=subscale_raster(size, period, "subsample" if given else "none"),
        guess="parent" if given else "zero",
        planes=(3, 5),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelPreset:
    """How one stage is built and trained."""

    name: str
    resolution: int
    """Height and width of its picture."""
    low_resolution: int | None
    """Of its parent, made of the picture as the scheme says; None for the first stage."""
    scheme: PassScheme
    """Parent, passes, guesses and candidates."""
    width: int
    blocks: int
    batch: int
    crop: int
    """Height and width of most training samples; whole pictures where it is `resolution`."""
    shift: int = 6
    """Training moves pictures of `drawn_at` pixels by so many at most, either way: few where the
    text has to say what is there, for every phase of the subsampling is another picture."""
    positions: bool = False
    slices: int = 0
    """Period of subscale slices that a masked decoder makes pixel by pixel; 0 for groups."""
    exact: bool = True
    drawn_at: int = 64
    """Size of the pictures that training moves and recolours; every so many-th pixel is taken."""
    head_width: int = 96
    features: int = 64
    gather: int | None = None
    """Pixels per side that the body of a first stage works on as one; None for one pixel each."""
    context_width: int = 384
    """Of the text's embeddings; 0 for a stage that knows no text."""
    token_width: int = 96
    text_width: int = 96
    text_planes: int = 0
    """As in `PixelNetConfig`."""
    later: float = 0.0
    """What later passes count in training, beside the next one; see `one_pass`."""
    first_share: float = 0.0
    """Share of training samples that are at their first pass, beside the even share: there the text
    alone says what is to come."""
    temperature_16: int = 12
    floor_16: int = 1
    guidance_16: int = UNIT_SIXTEENTHS
    """How it is sampled by default, in sixteenths."""
    learning_rate: float = 2e-3

    @property
    def passes(self) -> int:
        """Runs of the body for one picture."""
        return self.scheme.passes

    @property
    def factor(self) -> int:
        """Of the picture to its parent; 1 for the first stage."""
        return 1 if self.low_resolution is None else self.resolution // self.low_resolution

    @property
    def config(self) -> PixelNetConfig:
        """Of its networks."""
        return PixelNetConfig(
            resolution=self.resolution,
            cell=self.slices or self.gather or self.factor,
            has_parent=self.low_resolution is not None,
            width=self.width,
            blocks=self.blocks,
            passes=self.passes,
            candidates=self.scheme.candidates,
            positions=self.positions,
            exact=self.exact,
            context_width=self.context_width,
            token_width=self.token_width,
            text_width=self.text_width,
            text_planes=self.text_planes,
            head_width=self.head_width,
            features=self.features,
            flags=CHANNELS if self.scheme.channel_passes == "passes" else 1,
            planes=self.scheme.planes,
        )

    def network(self) -> AnyPixelNetwork:
        """The networks with random weights."""
        return SubscaleNetwork(self.config) if self.slices else PixelNetwork(self.config)


def doubling(resolution: int, *, width: int, blocks: int, batch: int, crop: int) -> PixelPreset:
    """A stage that doubles a picture of which it keeps every pixel."""
    return PixelPreset(
        name=f"px{resolution}",
        resolution=resolution,
        low_resolution=resolution // 2,
        scheme=DOUBLED,
        width=width,
        blocks=blocks,
        batch=batch,
        crop=crop,
    )


WORDS = 96
"""Width of the word table's embeddings."""
PX8 = PixelPreset(
    name="px8",
    resolution=8,
    low_resolution=None,
    scheme=FIRST,
    width=96,
    blocks=3,
    batch=64,
    crop=8,
    shift=0,
    positions=True,
    gather=2,
    features=48,
    head_width=64,
    context_width=WORDS,
    token_width=512,
    text_width=1024,
    text_planes=48,
    later=0.5,
    first_share=0.3,
    temperature_16=8,
    floor_16=2,
    guidance_16=24,
)
PX16 = replace(
    doubling(16, width=64, blocks=4, batch=48, crop=16),
    shift=0,
    positions=True,
    features=32,
    head_width=64,
    context_width=WORDS,
    token_width=256,
    text_width=512,
    text_planes=16,
    temperature_16=8,
    floor_16=8,
)
PX32 = replace(
    doubling(32, width=64, blocks=5, batch=16, crop=32),
    context_width=0,
    temperature_16=8,
    floor_16=8,
)
PX64 = replace(
    doubling(64, width=64, blocks=5, batch=12, crop=32),
    context_width=0,
    temperature_16=8,
    floor_16=8,
)
"""Small pictures are learnt as they are; large ones moved, and without text. Their floor rules out
the unlikely values that stand along edges as specks."""
PX128 = replace(
    doubling(128, width=64, blocks=5, batch=12, crop=32),
    scheme=AVERAGED,
    drawn_at=128,
    shift=12,
    context_width=0,
    temperature_16=8,
    floor_16=2,
)
PX256 = replace(PX128, name="px256", resolution=256, low_resolution=128, drawn_at=256, shift=24)
"""Upscalers, without text too, so that they fit behind any stage: behind the diffusion base, whose
text encoder is another, and behind px64. All from px32 on have one shape, and each can begin with
the weights of the one before (`cascade train px128 --start checkpoints/px64`)."""
PIXEL_PRESETS = {preset.name: preset for preset in (PX8, PX16, PX32, PX64, PX128, PX256)}


def with_order(preset: PixelPreset, order: OrderSpec) -> PixelPreset:
    """The same stage with other groups, for comparison."""
    return replace(preset, scheme=replace(preset.scheme, order=order))
