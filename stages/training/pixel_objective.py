"""What a network of pixels by groups learns: the bits of one pass's values, one value in turn.

A value is a symbol, its distance from a guess mod 256, or a copy of a candidate; the probability is
the sum of both ways. A symbol is two halves, the high one first. Knows batches and networks; not
pictures on disk or optimizers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.data.pixel_batch import PixelBatch
from stages.networks.pixel_network import CHANNELS, NIBBLES, SYMBOLS, UNDECIDED

LOGIT_UNIT = 16.0
"""Logits are multiples of 1 / LOGIT_UNIT nat."""
NEVER = -1e9
CENTRE = NIBBLES // 2
"""The symbol of a value that is its guess: small distances either way share one high half."""


@dataclass(frozen=True, slots=True)
class PixelObjective:
    """Bits per value, mean over one pass's values."""

    def loss(self, model: nn.Module, batch: PixelBatch, generator: torch.Generator) -> Tensor:
        """Bits per value of every sample, `[B]`."""
        del generator  # the loader has drawn all there is to draw
        return bits(model, batch).mean(dim=(1, 2))


@dataclass(frozen=True, slots=True)
class HeadLogits:
    """What a head answers, in 1 / `LOGIT_UNIT` nat.

    Attributes:
        high: `[B, n, 16]`, of the high half of the symbol.
        low: `[B, n, 256]`, of the low half, a row of 16 for each high one.
        copies: `[B, n, K + 1]`, of not copying and of each candidate.
    """

    high: Tensor
    low: Tensor
    copies: Tensor

    def of_symbol(self, wanted: Tensor) -> Tensor:
        """Natural logarithm of the probability of symbols `[B, n]` that are not copied."""
        high = functional.log_softmax(self.high / LOGIT_UNIT, -1)
        rows = self.low.unflatten(-1, (NIBBLES, NIBBLES)) / LOGIT_UNIT
        first, second = wanted // NIBBLES, wanted % NIBBLES
        where = first[..., None, None].expand(*first.shape, 1, NIBBLES)
        low = functional.log_softmax(rows.gather(-2, where)[..., 0, :], -1)
        return high.gather(-1, first[..., None])[..., 0] + low.gather(-1, second[..., None])[..., 0]

    def of_ways(self, match: Tensor) -> Tensor:
        """Ditto of not copying and of each candidate that may be copied, `[B, n, K + 1]`."""
        open_ways = torch.cat([torch.ones_like(match[..., :1]), match], -1)
        return functional.log_softmax(self.copies.masked_fill(~open_ways, NEVER) / LOGIT_UNIT, -1)


def symbols_of(batch: PixelBatch) -> Tensor:
    """The symbols of a batch's values, `[B, n, 3]`."""
    return (batch.values - batch.guess + CENTRE) % SYMBOLS


def bits(model: nn.Module, batch: PixelBatch) -> Tensor:
    """Bits of every value of a pass under a network, `[B, n, 3]`, true values given in turn."""
    features = model.body(  # type: ignore[operator]
        canvas=batch.canvas,
        known=batch.known,
        pass_index=batch.pass_index,
        targets=batch.targets,
        context=batch.context,
        context_mask=batch.context_mask,
        aug_level=batch.aug_level,
        **({} if batch.low_res is None else {"low_res": batch.low_res}),
    )
    symbols = symbols_of(batch)
    earlier, match = asked(batch, symbols)
    count = len(features)
    repeated = features.repeat(CHANNELS, 1, 1)
    logits = HeadLogits(*model.heads(repeated, earlier, match.float()))  # type: ignore[operator]
    wanted = symbols.permute(2, 0, 1).flatten(0, 1)
    equal = batch.candidates == batch.values[:, :, None]
    copied = match & equal.permute(3, 0, 1, 2).flatten(0, 1)
    found = log_probability(logits, match, wanted, copied)
    return -found.unflatten(0, (CHANNELS, count)).permute(1, 2, 0) / math.log(2)


def asked(batch: PixelBatch, symbols: Tensor) -> tuple[Tensor, Tensor]:
    """The head's questions, all of red, then all of green, then all of blue.

    Args:
        batch: of `B` samples with `n` values each.
        symbols: `[B, n, 3]`.

    Returns:
        Symbols decided so far `[3 B, n, 2]`, `UNDECIDED` where they are not, and the candidates
        that have them `[3 B, n, K]` bool.
    """
    blank = torch.full_like(symbols[..., 0], UNDECIDED)
    red, green = symbols[..., 0], symbols[..., 1]
    earlier = torch.cat(
        [torch.stack(pair, 2) for pair in ((blank, blank), (red, blank), (red, green))]
    )
    equal = batch.candidates == batch.values[:, :, None]
    match = [batch.usable]
    for channel in range(CHANNELS - 1):
        match.append(match[-1] & equal[..., channel])
    return earlier, torch.cat(match)


def log_probability(logits: HeadLogits, match: Tensor, wanted: Tensor, copied: Tensor) -> Tensor:
    """Natural logarithm of the probability of each value, `[B, n]`.

    Args:
        logits: of symbols and of copying.
        match: `[B, n, K]` bool, candidates that may be copied.
        wanted: `[B, n]` int64, the true symbols.
        copied: `[B, n, K]` bool, candidates that have the true value.
    """
    ways = logits.of_ways(match)
    made = ways[..., :1] + logits.of_symbol(wanted)[..., None]
    return torch.cat([made, ways[..., 1:].masked_fill(~copied, NEVER)], -1).logsumexp(-1)
