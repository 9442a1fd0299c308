"""Bit planes: which bits of a value one pass decides, and the symbols that stand for them.

A value is made plane by plane, the top bits first; mostly there is one plane of all eight. A symbol
is how far a plane's bits are from those of the guess. It is drawn digit by digit, sixteen choices
each, so that little work is left beside the network. Knows numbers; not pictures.
"""

from dataclasses import dataclass

import numpy as np

from cascade.errors import ManifestError
from cascade.types import Array

BITS = 8
"""Of a value."""
CENTRE = 8
"""Added to the symbols of whole values: distances -8 to 7 then share their high digit."""
MAX_NARROW_BITS = 5
"""Of a plane that is drawn as one digit."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Some bits of every value.

    Attributes:
        bits: how many: 8, or 1 to `MAX_NARROW_BITS`.
        below: bits of later planes.
    """

    bits: int
    below: int

    @property
    def symbols(self) -> int:
        """How many there are; this number itself stands for "not decided yet"."""
        return 1 << self.bits

    @property
    def digit_bits(self) -> tuple[int, ...]:
        """Bits of each digit of a symbol, the high one first."""
        return (4, 4) if self.bits == BITS else (self.bits,)

    @property
    def is_first(self) -> bool:
        """Whether nothing of a value is decided before it."""
        return self.bits + self.below == BITS

    @property
    def decided(self) -> int:
        """Bits that are decided after this plane."""
        return BITS - self.below

    @property
    def centre(self) -> int:
        """The symbol of a guess that is right."""
        return CENTRE if self.bits == BITS else 0

    def part(self, values: Array) -> Array:
        """The bits of this plane, as numbers from 0; of values uint8 of any shape."""
        return values if self.bits == BITS else values >> self.below & self.symbols - 1

    def symbol_of(self, values: Array, guess: Array) -> Array:
        """The symbols of values against guesses: uint8 of any shape, which wraps."""
        if self.bits == BITS:
            return values - (guess - np.uint8(CENTRE))
        return self.part(values) - self.part(guess) & self.symbols - 1

    def part_of(self, symbol: Array, guess: Array) -> Array:
        """The bits that symbols stand for, uint8 of any shape; undoes `symbol_of`."""
        if self.bits == BITS:
            return symbol + (guess - np.uint8(CENTRE))
        return self.part(guess) + symbol & self.symbols - 1


WHOLE = Plane(BITS, 0)
"""Eight bits at once."""


def planes_of(bits: tuple[int, ...], path: str = "planes") -> tuple[Plane, ...]:
    """The planes of a manifest, the top one first.

    Args:
        bits: of each plane, 8 together.
        path: of the field.

    Raises:
        ManifestError: other numbers.
    """
    narrow = all(1 <= count <= MAX_NARROW_BITS for count in bits)
    if sum(bits) != BITS or not (narrow or bits == (BITS,)):
        raise ManifestError(
            f"{path}: expected [8], or numbers of 1 to {MAX_NARROW_BITS} that are 8 together, got "
            f"{list(bits)}",
            field=path,
        )
    below = BITS
    found = []
    for count in bits:
        below -= count
        found.append(Plane(count, below))
    return tuple(found)


def symbol_of(value: Array, guess: Array) -> Array:
    """The symbol of a whole value, `(value - guess + 8) mod 256`; uint8 of any shape."""
    return WHOLE.symbol_of(value, guess)


def value_of(symbol: Array, guess: Array) -> Array:
    """The whole value of a symbol; undoes `symbol_of`; uint8 of any shape."""
    return WHOLE.part_of(symbol, guess)
