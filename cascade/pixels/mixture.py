"""The weights of a value's symbol, digit by digit: the network's own choice or a copied candidate.

`P(s) = c_0 T(s) + sum_k c_k [s_k = s]`, where `T` is the network's distribution over symbols, `c`
that over "do not copy" and the candidates, and `s_k` the symbol that candidate `k` would be. The
weights below are these probabilities times whole numbers, without rounding: first of the high
digit, then of the low digit given the high one. Choices and candidates lie along the first axis,
so that numpy works on long rows. Knows columns of numbers; not pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cascade.pixels.logits import DIGIT, Logits
from cascade.pixels.planes import Plane
from cascade.pixels.weights import NEVER, UNIT_SIXTEENTHS, Weights, weights_of, with_floor
from cascade.types import Array

MAX_CANDIDATES = 128
"""Totals then stay below 2^64: 2^20 of each digit's sum, 2^16 times 129 of the copies'."""
DIGITS = np.arange(DIGIT, dtype=np.uint8)[:, None]
"""Every choice of a digit, `[16, 1]`."""

Choose = Callable[[int, Weights], Array]
"""The number of a digit, from 0, and its weights `[choices, n]` to the choices `[n]` uint8; the
weights may be overwritten."""


@dataclass(frozen=True, slots=True)
class Sharpness:
    """How decisions are made of weights, in sixteenths.

    Attributes:
        temperature_16: 16 leaves the weights; less prefers the likely.
        floor_16: choices with less than so many sixteenths of the largest weight are ruled out.
    """

    temperature_16: int = UNIT_SIXTEENTHS
    floor_16: int = 0


PLAIN = Sharpness()
"""The weights as they are."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The symbols that may be chosen, an interval that may wrap around.

    Attributes:
        start: `[n]` uint8, the first symbol.
        width: `[n]` uint8, how many more follow.
    """

    start: Array
    width: Array

    def has(self, plane: Plane, symbol: Array) -> Array:
        """Whether symbols `[m, n]` or `[m, 1]` uint8 are among them, `[m, n]` bool."""
        found: Array = (symbol - self.start & plane.symbols - 1) <= self.width
        return found

    def has_high(self, plane: Plane) -> Array:
        """Whether a high digit leads to any of them, `[choices, n]`, dtype bool."""
        if len(plane.digit_bits) == 1:
            return self.has(plane, np.arange(plane.symbols, dtype=np.uint8)[:, None])
        first = DIGITS * DIGIT
        begins_inside = (self.start - first & plane.symbols - 1) < DIGIT
        found: Array = self.has(plane, first) | begins_inside
        return found


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be copied, for `n` values of one channel.

    Attributes:
        symbols: `[K, n]` uint8, what each would be.
        match: `[K, n]` bool, whether it may be copied.
    """

    symbols: Array
    match: Array


@dataclass(frozen=True, slots=True)
class Mixture:
    """`n` values of one channel to be decided.

    Attributes:
        plane: which bits.
        candidates: None where nothing is ever copied.
        allowed: None where everything is.
        sharpness: temperature and floor.
    """

    plane: Plane
    candidates: Candidates | None = None
    allowed: Allowed | None = None
    sharpness: Sharpness = PLAIN

    def decide(self, logits: Logits, choose: Choose) -> Array:
        """The symbols.

        Args:
            logits: of the `n` values.
            choose: is asked once a digit; draws, looks up the truth, or codes it.

        Returns:
            `[n]` uint8.
        """
        cut, digits = self.sharpness.floor_16, self.plane.digit_bits
        a = weights_of(logits.high_digit(1 << digits[0]), self.sharpness.temperature_16)
        copy, total = self.copy_weights(logits), a.sum(axis=0)
        weights, high_of = a * copy[0], None
        if self.candidates is not None:
            symbols = self.candidates.symbols
            high_of = symbols >> 4 if len(digits) == 2 else symbols
            add_copies(weights, summed(high_of, copy[1:], len(a)), total)
        if self.allowed is not None:
            weights *= self.allowed.has_high(self.plane)
        high = choose(0, with_floor(weights, cut))
        if len(digits) == 1:
            return high
        weights = weights_of(logits.low_digit(high), self.sharpness.temperature_16)
        if self.candidates is not None:
            copy[1:] *= high_of == high
            places = summed(self.candidates.symbols & DIGIT - 1, copy[1:], DIGIT)
            total *= weights.sum(axis=0)
            weights *= copy[0] * a.reshape(-1)[high * np.intp(len(high)) + np.arange(len(high))]
            add_copies(weights, places, total)
        if self.allowed is not None:
            symbols = high * DIGIT + DIGITS
            weights *= self.allowed.has(self.plane, symbols)
        return high * DIGIT + choose(1, with_floor(weights, cut))

    def copy_weights(self, logits: Logits) -> Weights:
        """The weights of not copying and of each candidate, `[K + 1, n]`; 0 of what may not be."""
        found = self.candidates
        if found is None:
            return np.ones((1, 1), np.uint64)
        unusable = ~found.match
        if self.allowed is not None:
            unusable |= ~self.allowed.has(self.plane, found.symbols)
        masked = logits.copying()
        # A candidate that may not be copied must not set the scale of those that may. Added and not
        # put in its place, which takes four times as long.
        masked[1:] += unusable * np.float32(NEVER)
        return weights_of(masked, self.sharpness.temperature_16)


def add_copies(own: Weights, copied: Weights, total: Weights) -> None:
    """Bring the network's weights and those of copies over one denominator.

    Args:
        own: `[choices, n]`, of the network, times the share of not copying; the copies' are added.
        copied: `[choices, n]`, of copies; overwritten.
        total: `[n]`, what these are multiplied by.
    """
    copied *= total
    own += copied


def summed(places: Array, weights: Weights, count: int) -> Weights:
    """Weights added up by place, column by column.

    Args:
        places: `[K, n]` uint8, 0 to `count - 1`.
        weights: `[K, n]`.
        count: of places.

    Returns:
        `[count, n]`.
    """
    columns = places.shape[1]
    found = np.zeros(count * columns, np.uint64)
    flat = places.astype(np.intp)
    flat *= columns
    flat += np.arange(columns)
    # Not by `bincount`, which goes through double precision.
    np.add.at(found, flat.reshape(-1), weights.reshape(-1))
    return found.reshape(count, columns)
