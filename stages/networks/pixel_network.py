"""The networks of a stage that makes its picture by groups of pixels: a body and a head.

The body is run once per pass: from the pixels that are known, the parent picture and the text to
features of the pixels that this pass makes. The head is run once per channel: from features and
what the channels before came to, to logits of the symbol and of copying each candidate. Every
number is an integer or a multiple of 2^-10 (`stages.networks.exact`); the same classes with
`exact=False` are the float networks for comparison. Knows no order of pixels and no picture files.

References:
    Reed et al. 2017 (arXiv 1703.03664) for groups of pixels made in parallel; Oord et al. 2016
    (arXiv 1601.06759) for channels in order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.networks.exact import STREAM, ExactLayer, ExactTable, Range

SYMBOLS, NIBBLES = 256, 16
"""Values of a symbol, and of each of the halves that it is drawn in."""
CHANNELS = 3
UNDECIDED = SYMBOLS
"""In place of the symbol of a channel that is still to come."""
CENTRE = 128
"""Values of pixels are seen as their distance from this."""
PRESENT = 64.0
"""What a known pixel's flag weighs beside its value."""
CONTEXT_UNIT, CONTEXT_LARGEST = 16.0, 127.0
"""Embeddings are read as multiples of 1 / CONTEXT_UNIT up to CONTEXT_LARGEST of them."""
LEVEL_UNIT = 64.0
"""Augmentation levels are read as multiples of 1 / LEVEL_UNIT."""
LOGIT_LARGEST = 1023
"""Logits are integers of this size at most, in 1 / 16 nat."""
SMALL_GAIN = 0.1
"""Gain of layers that should hardly be heard at first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelNetConfig:
    """Widths and depths of one stage's networks."""

    resolution: int
    """Height and width of the picture, for `positions` alone."""
    cell: int
    """Pixels per side that the body gathers into one position: the factor to its parent, or 1."""
    has_parent: bool
    width: int
    blocks: int
    passes: int
    candidates: int
    """Pixels that a symbol may be copied from."""
    features: int = 64
    head_width: int = 96
    context_width: int = 384
    """Of the text's embeddings; 0 for a stage that knows no text."""
    token_width: int = 96
    """Of what is read of each token; the largest of each is kept."""
    text_width: int = 96
    text_planes: int = 0
    """Planes of its own size that the body is shown of the text, where the size is fixed: a first
    stage has to know what belongs where before it knows a pixel. The first ones are a picture."""
    positions: bool = False
    """Whether every position of the body has a learnt row of its own; the size is then fixed."""
    exact: bool = True
    flags: int = 1
    """Channels of `known`: 3 where each channel has passes of its own."""
    planes: tuple[int, ...] = (8,)
    """Bits of each plane; symbols of several planes are drawn whole and have no halves."""

    @property
    def symbols(self) -> int:
        """Of the widest plane; this number itself stands for "not decided yet" there."""
        return 1 << max(self.planes)

    def signed(self, largest: float = STREAM) -> Range:
        """Results on both sides of zero."""
        return Range(-largest, largest, self.exact)

    @property
    def positive(self) -> Range:
        """Results of layers that cut at zero."""
        return Range(0, STREAM, self.exact)

    @property
    def side(self) -> int:
        """Height and width of what the body works on."""
        return self.resolution // self.cell


class TextRow(nn.Module):
    """A prompt as one row of integers: every token on its own, the largest of each kept.

    Attention needs a softmax, which no two engines compute alike; a maximum is exact.
    """

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        width = config.token_width
        self.read = Range(-CONTEXT_LARGEST, CONTEXT_LARGEST, config.exact)
        self.token = ExactLayer(
            config.context_width, width, config.positive, largest=CONTEXT_LARGEST
        )
        self.mixed = ExactLayer(width, config.text_width, config.positive)

    def forward(self, context: Tensor, context_mask: Tensor) -> Tensor:
        """`[B, L, D]` and `[B, L]` to `[B, text_width]`; zeros' layer where no token counts."""
        row: Tensor = self.mixed(self.kept(context, context_mask))
        return row

    def kept(self, context: Tensor, context_mask: Tensor) -> Tensor:
        """The largest of every feature of the tokens, `[B, token_width]`."""
        tokens = self.token(self.read.held(context * CONTEXT_UNIT, training=self.training))
        largest: Tensor = (tokens * context_mask[:, :, None]).amax(dim=1)
        return largest


class PixelBlock(nn.Module):
    """Two 3x3 convolutions and what they are added to; the text joins before the first is cut."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        width = config.width
        self.text = (
            ExactLayer(config.text_width, width, config.signed(), gain=SMALL_GAIN)
            if config.context_width
            else None
        )
        said = STREAM if config.context_width else 0
        self.first = ExactLayer(width, width, config.positive, kernel=3, added=said)
        self.second = ExactLayer(
            width, width, config.signed(), kernel=3, added=STREAM, gain=SMALL_GAIN
        )

    def forward(self, h: Tensor, text: Tensor | None) -> Tensor:
        """`[B, C, h, w] -> [B, C, h, w]`; the text is `[B, text_width]`, or there is none."""
        said = () if self.text is None else (self.text(text)[:, :, None, None],)
        changed: Tensor = self.second(self.first(h, *said), h)
        return changed


class TextPlanes(nn.Module):
    """The text as planes of integers: what it says of every place, before anything is known."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        self.shape = (config.text_planes, config.side, config.side)
        size = config.text_planes * config.side**2
        self.layer = ExactLayer(config.text_width, size, config.signed(CENTRE))

    def forward(self, text: Tensor) -> Tensor:
        """`[B, text_width]` to `[B, planes, h, w]`."""
        planes: Tensor = self.layer(text).unflatten(1, self.shape)
        return planes


class PixelBody(nn.Module):
    """One pass: what is known to features of the pixels to be made. See `forward`."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        self.config = config
        width, area = config.width, config.cell**2
        shown = (CHANNELS + config.flags) * area + CHANNELS * config.has_parent + config.text_planes
        self.text = TextRow(config) if config.context_width else None
        self.planes = TextPlanes(config) if config.text_planes else None
        self.group = ExactTable(config.passes, width, exact=config.exact)
        self.level = ExactLayer(1, width, config.signed(), largest=LEVEL_UNIT)
        self.place = (
            ExactTable(config.side**2, width, exact=config.exact) if config.positions else None
        )
        joined = STREAM * (2 + config.positions)
        self.stem = ExactLayer(
            shown, width, config.signed(), largest=CENTRE, kernel=3, added=joined
        )
        self.blocks = nn.ModuleList(PixelBlock(config) for _ in range(config.blocks))
        self.out = ExactLayer(width, config.features * area, config.signed(), kernel=1)

    def forward(  # noqa: PLR0913  the inputs of the exported graph
        self,
        canvas: Tensor,
        known: Tensor,
        pass_index: Tensor,
        targets: Tensor,
        aug_level: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        low_res: Tensor | None = None,
    ) -> Tensor:
        """Features `[B, n, F]`, integers, of the pixels of one pass.

        Args:
            canvas: `[B, 3, H, W]`, values 0 to 255, anything where they are not known.
            known: `[B, 1, H, W]`, 1 where they are, less where only their top bits are; 3 channels
                where each has passes of its own.
            pass_index: `[B]` int64, which pass.
            targets: `[B, n]` int64, flat positions of the pixels to be made.
            aug_level: `[B]`, 0 to 1, the share of what is shown that was falsified in training.
            context: `[B, L, D]` text embeddings; None where the stage knows no text.
            context_mask: `[B, L]`, 1 for a real token.
            low_res: `[B, 3, h, w]`, values 0 to 255, the parent picture.
        """
        cell = self.config.cell
        # With planes a part of a value is known: eighths would leave the integers.
        whole = torch.ceil(known) if len(self.config.planes) > 1 else known
        seen = torch.cat([(canvas - CENTRE) * whole, known * PRESENT], 1)
        shown = functional.pixel_unshuffle(seen, cell) if cell > 1 else seen
        if low_res is not None:
            shown = torch.cat([shown, low_res - CENTRE], 1)
        level = torch.round(aug_level[:, None] * LEVEL_UNIT)
        rows = [self.group(pass_index)[:, :, None, None], self.level(level)[:, :, None, None]]
        text = None if self.text is None else self.text(context, context_mask)
        if self.planes is not None:
            shown = torch.cat([shown, self.planes(text)], 1)
        if self.place is not None:
            side = self.config.side
            where = torch.arange(side * side, device=canvas.device)
            rows.append(self.place(where).T.unflatten(1, (side, side))[None])
        h = self.stem(shown, *rows)
        for block in self.blocks:
            h = block(h, text)
        wide = self.out(h)
        pixels = functional.pixel_shuffle(wide, cell) if cell > 1 else wide
        flat = pixels.flatten(2).transpose(1, 2)
        return torch.gather(flat, 1, targets[:, :, None].expand(-1, -1, flat.shape[2]))


class PixelHeads(nn.Module):
    """The head of all channels, asked once for each: what is decided already says which is meant.

    See `forward`.
    """

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        width, halves = config.head_width, config.symbols == SYMBOLS
        self.earlier = nn.ModuleList(
            ExactTable(config.symbols + 1, width, exact=config.exact) for _ in range(CHANNELS - 1)
        )
        self.match = (
            ExactLayer(config.candidates, width, config.signed(), largest=PRESENT)
            if config.candidates
            else None
        )
        self.hidden = ExactLayer(config.features, width, config.positive, added=CHANNELS * STREAM)
        self.deeper = ExactLayer(width, width, config.positive)
        logits = config.signed(LOGIT_LARGEST)
        first = NIBBLES if halves else config.symbols
        self.high = ExactLayer(width, first, logits, gain=SMALL_GAIN)
        self.low = ExactLayer(width, SYMBOLS, logits, gain=SMALL_GAIN) if halves else None
        self.copy = (
            ExactLayer(width, config.candidates + 1, logits, gain=SMALL_GAIN)
            if config.candidates
            else None
        )

    def forward(
        self,
        features: Tensor,
        earlier: Tensor,
        match: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Logits of one channel, integers in 1 / 16 nat.

        Args:
            features: `[B, n, F]`, the body's.
            earlier: `[B, n, 2]` int64, symbols of red and green; `UNDECIDED` where they are not
                known yet, so that red is asked with both.
            match: `[B, n, K]`, 1 where a candidate is known and has the values decided so far;
                None where nothing is ever copied.
            wanted: `[B, n]` int64, the high half that low ones are asked for; None for all. For
                training, which needs one in sixteen.

        Returns:
            A symbol's high half `[B, n, 16]`; its low half given each high one, a row of 16
            after the other, `[B, n, 256]`, or `[B, n, 16]` given the one wanted; and not to copy
            or which candidate `[B, n, K + 1]`. Of planes there is one row of all symbols instead
            of halves; without candidates no last answer.
        """
        said = [table(earlier[:, :, c]) for c, table in enumerate(self.earlier)]
        if self.match is not None and match is not None:
            said.append(self.match(match * PRESENT))
        hidden = self.deeper(self.hidden(features, *said))
        answers = [self.high(hidden)]
        if self.low is not None:
            sums = self.low.sums(hidden)
            answers.append(self.low.held(sums if wanted is None else row_of(sums, wanted)))
        if self.copy is not None:
            answers.append(self.copy(hidden))
        return tuple(answers)


def row_of(low: Tensor, high: Tensor) -> Tensor:
    """The sixteen of `[B, n, 256]` that belong to high halves `[B, n]`."""
    rows = low.unflatten(-1, (NIBBLES, NIBBLES))
    where = high[..., None, None].expand(*high.shape, 1, NIBBLES)
    return rows.gather(-2, where)[..., 0, :]


class PixelNetwork(nn.Module):
    """Body and heads of one stage, trained together and exported apart."""

    def __init__(self, config: PixelNetConfig) -> None:
        super().__init__()
        self.config = config
        self.body = PixelBody(config)
        self.heads = PixelHeads(config)
