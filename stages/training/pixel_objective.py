"""What a network of pixels by groups learns: the bits of one pass's values, one value in turn.

A value is a symbol, its distance from a guess mod 256, or a copy of a candidate; the probability is
the sum of both ways. A symbol is two halves, the high one first. Knows batches and networks; not
pictures on disk or optimizers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.data.pixel_batch import PixelBatch
from stages.networks.pixel_network import CHANNELS, NIBBLES, SYMBOLS

LOGIT_UNIT = 16.0
"""Logits are multiples of 1 / LOGIT_UNIT nat."""
NEVER = -1e9
CENTRE = NIBBLES // 2
"""The symbol of a value that is its guess: small distances either way share one high half."""


@dataclass(frozen=True, slots=True)
class PixelObjective:
    """Bits per value, mean over one pass's values as the batch weighs them."""

    def loss(self, model: nn.Module, batch: PixelBatch, generator: torch.Generator) -> Tensor:
        """Bits per value of every sample, `[B]`."""
        del generator  # the loader has drawn all there is to draw
        counted = batch.weights > 0
        # The heads are not asked about targets that do not count.
        asked_now = alone(batch, counted)
        features = features_of(model, batch)[counted][:, None]
        made = asked_now.decides.float()
        found = (bits_of(model, features, asked_now)[:, 0] * made).sum(1) / made.sum(1)
        shares = found * batch.weights[counted]
        sample = torch.nonzero(counted)[:, 0]
        return torch.zeros(len(counted)).to(shares).index_add(0, sample, shares)


@dataclass(frozen=True, slots=True)
class HeadLogits:
    """What a head answers, in 1 / `LOGIT_UNIT` nat.

    Attributes:
        high: `[B, n, 16]`, of the high half of the symbol; of planes `[B, n, S]`, of the symbol.
        low: `[B, n, 16]`, of the low half, given the true high one; None of planes.
        copies: `[B, n, K + 1]`, of not copying and of each candidate; None where nothing is.
        symbols: `[B]` int64, how many symbols there are; None for 256.
    """

    high: Tensor
    low: Tensor | None
    copies: Tensor | None
    symbols: Tensor | None = None

    def of_symbol(self, wanted: Tensor) -> Tensor:
        """Natural logarithm of the probability of symbols `[B, n]` that are not copied."""
        if self.low is None:
            return self._of_whole(wanted)
        high = functional.log_softmax(self.high / LOGIT_UNIT, -1)
        low = functional.log_softmax(self.low / LOGIT_UNIT, -1)
        first, second = wanted[..., None] // NIBBLES, wanted[..., None] % NIBBLES
        return high.gather(-1, first)[..., 0] + low.gather(-1, second)[..., 0]

    def _of_whole(self, wanted: Tensor) -> Tensor:
        """Ditto of symbols without halves: a narrow plane has the first of them alone."""
        logits = self.high / LOGIT_UNIT
        if self.symbols is not None:
            beyond = torch.arange(logits.shape[-1]) >= self.symbols[:, None, None]
            logits = logits.masked_fill(beyond, NEVER)
        return functional.log_softmax(logits, -1).gather(-1, wanted[..., None])[..., 0]

    def of_ways(self, match: Tensor) -> Tensor:
        """Ditto of not copying and of each candidate that may be copied, `[B, n, K + 1]`."""
        if self.copies is None:
            return torch.zeros(*match.shape[:2], 1)
        open_ways = torch.cat([torch.ones_like(match[..., :1]), match], -1)
        return functional.log_softmax(self.copies.masked_fill(~open_ways, NEVER) / LOGIT_UNIT, -1)


def symbols_of(batch: PixelBatch) -> Tensor:
    """The symbols of a batch's values, `[B, n, 3]`; see `cascade.pixels.planes`."""
    below, count = batch.below[:, None, None], batch.symbols[:, None, None]
    centre = torch.where(count == SYMBOLS, CENTRE, 0)
    return ((batch.values >> below) - (batch.guess >> below) + centre) % count


def equal_of(batch: PixelBatch) -> Tensor:
    """Whether candidates have the bits that the pass decides, `[B, n, K, 3]` bool."""
    below = batch.below[:, None, None, None]
    return batch.candidates >> below == batch.values[:, :, None] >> below


def bits(model: nn.Module, batch: PixelBatch) -> Tensor:
    """Bits of every value of a pass under a network, `[B, n, 3]`, true values given in turn."""
    return bits_of(model, features_of(model, batch), batch)


def features_of(model: nn.Module, batch: PixelBatch) -> Tensor:
    """Features of the targets, `[B, n, F]`."""
    inputs = {
        "canvas": batch.canvas,
        "known": batch.known,
        "pass_index": batch.pass_index,
        "targets": batch.targets,
        "aug_level": batch.aug_level,
        "context": batch.context,
        "context_mask": batch.context_mask,
        "low_res": batch.low_res,
    }
    found: Tensor = model.body(  # type: ignore[operator]
        **{name: tensor for name, tensor in inputs.items() if tensor is not None}
    )
    return found


def alone(batch: PixelBatch, counted: Tensor) -> PixelBatch:
    """The targets of `counted` `[B, n]` bool as samples of one target each, for the heads alone."""
    sample = torch.nonzero(counted)[:, 0]
    of_targets = ("values", "guess", "candidates", "usable")
    of_samples = ("symbols", "below", "decides")
    return replace(
        batch,
        **{name: getattr(batch, name)[counted][:, None] for name in of_targets},
        **{name: getattr(batch, name)[sample] for name in of_samples},
    )


def bits_of(model: nn.Module, features: Tensor, batch: PixelBatch) -> Tensor:
    """Bits of every value by the features `[B, n, F]` of its pixel, `[B, n, 3]`."""
    symbols = symbols_of(batch)
    earlier, match = asked(batch, symbols)
    count = len(features)
    repeated = features.repeat(CHANNELS, 1, 1)
    wanted = symbols.permute(2, 0, 1).flatten(0, 1)
    asked_for = {"match": match.float()} if match.shape[-1] else {}
    answers = model.heads(repeated, earlier, **asked_for, wanted=wanted // NIBBLES)  # type: ignore[operator]
    logits = head_logits(answers, batch)
    copied = match & equal_of(batch).permute(3, 0, 1, 2).flatten(0, 1)
    found = log_probability(logits, match, wanted, copied)
    return -found.unflatten(0, (CHANNELS, count)).permute(1, 2, 0) / math.log(2)


def head_logits(answers: Sequence[Tensor], batch: PixelBatch) -> HeadLogits:
    """The head's answers to `asked` by name: halves or whole symbols, and copies if there are."""
    copies = answers[-1] if batch.usable.shape[-1] else None
    given = len(answers) - (copies is not None)
    low = answers[1] if given > 1 else None
    symbols = None if low is not None else batch.symbols.repeat(CHANNELS)
    return HeadLogits(answers[0], low, copies, symbols)


def asked(batch: PixelBatch, symbols: Tensor) -> tuple[Tensor, Tensor]:
    """The head's questions, all of red, then all of green, then all of blue.

    Args:
        batch: of `B` samples with `n` values each.
        symbols: `[B, n, 3]`.

    Returns:
        Symbols decided so far `[3 B, n, 2]`, the number of symbols where they are not, and the
        candidates that have them `[3 B, n, K]` bool.
    """
    blank = batch.symbols[:, None].expand_as(symbols[..., 0])
    red, green = symbols[..., 0], symbols[..., 1]
    earlier = torch.cat(
        [torch.stack(pair, 2) for pair in ((blank, blank), (red, blank), (red, green))]
    )
    equal = equal_of(batch)
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
