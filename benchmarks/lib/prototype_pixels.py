"""Pixels by groups as the first prototype decided them: a baseline for the time of the host.

All 256 symbols of a value are weighed at once, `[n, 256]`, with a call per picture and channel; the
product decides two digits of sixteen. Layout, guesses and candidates are the product's own, so the
baseline is rather too fast. Knows arrays; neither networks nor engines.
"""

import numpy as np

from cascade.pixels.layout import Block
from cascade.pixels.logits import Logits
from cascade.pixels.mixture import PLAIN, Sharpness
from cascade.pixels.pictures import Decider, Drawn, Pictures
from cascade.pixels.weights import Weights, share_of, weight_table
from cascade.types import Array

SYMBOLS = 256


class PrototypePictures(Pictures):
    """Pictures whose symbols are drawn from 256 weights; the head's low logits are taken as them.

    Other pictures than the product's come out. They are made to be timed.
    """

    def decide(
        self, channel: int, logits: Logits, decider: Decider, sharpness: Sharpness = PLAIN
    ) -> None:
        """Decide a channel of the pass; see `Pictures.decide`."""
        del sharpness
        assert isinstance(decider, Drawn)
        step, decided = self._now.step, np.empty(len(self._now.slots), np.uint8)
        for block in self._now.blocks:
            guess = self._guess[channel][block.columns]
            words = decider.words[0][block.values[channel]]
            found = picked(self._weights(channel, block, guess, logits), words)
            decided[block.columns] = found
            part = step.plane.part_of(found, guess)
            self.canvas.decide(block.slots, channel, step.plane, part, self._cells_of(block))
        self._earlier[..., channel % 2] = decided.reshape(self._rows, -1)
        self._match = self._match & (self._symbols[channel] == decided)

    def _weights(self, channel: int, block: Block, guess: Array, logits: Logits) -> Weights:
        """Of every symbol of a block's values, `[m, 256]` uint64."""
        assert logits.low is not None
        weights = of_rows(logits.low[block.answers])
        if logits.copy is not None:
            copy = of_rows(logits.copy[block.answers])
            copy[:, 1:] *= self._match[:, block.columns].T
            total = weights.sum(axis=1)
            weights *= copy[:, :1]
            rows = np.arange(len(weights))
            for number, symbols in enumerate(self._symbols[channel][:, block.columns]):
                np.add.at(weights, (rows, symbols), copy[:, 1 + number] * total)
        allowed = self._question(channel, block, guess, PLAIN).allowed
        if allowed is not None:
            inside = np.arange(SYMBOLS, dtype=np.uint8) - allowed.start[:, None]
            weights *= inside <= allowed.width[:, None]
        return weights


def of_rows(logits: Array) -> Weights:
    """Weights of logits `[m, choices]`, uint64."""
    whole = logits.astype(np.int64)
    distance = whole.max(axis=1, keepdims=True) - whole
    weights: Weights = weight_table()[np.minimum(distance, len(weight_table()) - 1)]
    return weights


def picked(weights: Weights, words: Array) -> Array:
    """The first symbol of every row `[m, 256]` whose running sum exceeds the word's share."""
    sums = np.cumsum(weights, axis=1)
    share = share_of(words.astype(np.uint64), sums[:, -1])
    return (sums <= share[:, None]).sum(axis=1).astype(np.uint8)
