"""What the heads answered, as whole numbers: checked, guided, and no more of them than are needed.

Logits come as float32 whose values are whole sixteenths of a nat. Only the sixteen of a chosen high
digit are looked at among the 256 of the low one. Knows arrays; neither engines nor pixels.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cascade.errors import StageError
from cascade.pixels.weights import LARGEST_LOGIT, UNIT_SIXTEENTHS
from cascade.types import Array

DIGIT = 16
"""Choices of each digit of a whole value."""

Arithmetic = Literal["exact", "float"]
"""Whether a graph's numbers are the same bits on every engine, or only close."""


@dataclass(frozen=True, slots=True)
class Logits:
    """Answers for `n` values of one channel.

    Attributes:
        high: `[n, d]` float32, of the high digit: 16 of a whole value, else at least as many as the
            plane has symbols.
        low: `[n, 256]`, of the low digit: choice `l` under high digit `h` is `16 h + l`; None of
            planes of one digit.
        copy: `[n, K + 1]`, not to copy, then each candidate; None without candidates.
        arithmetic: `exact` refuses what is no whole number, `float` rounds it.
        without: the same without the text, for guidance; None for none.
        guidance_16: weight of `without + w (with - without)` in sixteenths.
        at: the values that are meant: a slice, or `[m]` int64; None for all, in order.
    """

    high: Array
    low: Array | None
    copy: Array | None
    arithmetic: Arithmetic = "exact"
    without: "Logits | None" = None
    guidance_16: int = UNIT_SIXTEENTHS
    at: slice | Array | None = None

    def rows(self, at: slice | Array) -> "Logits":
        """The answers for some of the values, a slice or `[m]` int64; nothing is copied."""
        without = None if self.without is None else self.without.rows(at)
        return replace(self, at=at, without=without)

    def meant(self, values: Array) -> Array:
        """The rows of an output `[n, choices]` float32 that are meant, `[m, choices]`."""
        return values if self.at is None else values[self.at]

    def high_digit(self, choices: int) -> Array:
        """Of the high digit, `[choices, m]` float32.

        Raises:
            StageError: they are no whole numbers, or beyond `LARGEST_LOGIT`.
        """
        found = self.whole(self.meant(self.high)[:, :choices])
        return (
            found if self.without is None else self.mixed(found, self.without.high_digit(choices))
        )

    def low_digit(self, high: Array) -> Array:
        """Of the low digit under the chosen high ones `[m]`, `[16, m]` float32.

        Raises:
            StageError: as `high_digit`, or there are none.
        """
        if self.low is None:
            raise StageError("heads: no output low; planes of 8 bits need one")
        at = self.at
        if not isinstance(at, np.ndarray):
            begin = 0 if at is None else at.start
            at = np.arange(begin, begin + len(high))
        rows = self.low.reshape(-1, DIGIT).take(at * DIGIT + high, axis=0, mode="clip")
        found = self.whole(rows)
        return found if self.without is None else self.mixed(found, self.without.low_digit(high))

    def copying(self) -> Array:
        """Of copying, `[K + 1, m]` float32, a new array.

        Raises:
            StageError: as `high_digit`, or there are none.
        """
        if self.copy is None:
            raise StageError("heads: no output copy; candidates need one")
        found = self.whole(self.meant(self.copy))
        return found if self.without is None else self.mixed(found, self.without.copying())

    def mixed(self, found: Array, other: Array) -> Array:
        """Guidance, float32 of any shape: `other + floor(w (found - other) / 16)`.

        Float32 holds the product: 160 times the distance of two logits is below 2^24.
        """
        guided: Array = other + np.floor((found - other) * self.guidance_16 / UNIT_SIXTEENTHS)
        return guided

    def whole(self, values: Array) -> Array:
        """Answers `[m, choices]` as whole numbers `[choices, m]`, float32; see `arithmetic`."""
        # Choices first before anything else: numpy works on long rows. Float32 throughout, which
        # holds them: half the memory of an index.
        found = np.ascontiguousarray(values.T)
        whole: Array = np.rint(found)
        if self.arithmetic == "float":
            found = whole
        # Written so that NaN is refused too.
        inside = found.min() >= -LARGEST_LOGIT and found.max() <= LARGEST_LOGIT
        if not (inside and (found == whole).all()):
            raise StageError(
                f"heads: expected whole logits of -{LARGEST_LOGIT} to {LARGEST_LOGIT}; an exact "
                "graph answers others where its engine computes in another precision: use fp32"
            )
        return whole
