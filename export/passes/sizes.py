"""How long an axis is, as far as that follows from the graph: a number, or a sum of named sizes.

Two axes are proven equal where their sums are; what cannot be worked out has a name of its own, so
that nothing is ever taken for equal to it but itself. Knows numbers and names; not graphs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod

from export.free_axes import STRIDE

Product = tuple[str, ...]
"""Names that are multiplied, sorted; none for a plain number."""

MULTIPLES = {"height": STRIDE, "width": STRIDE}
"""What free axes of these names are multiples of: the exporter traces them so, the runtime checks
it. Any other free axis may be 1."""

UNKNOWN = "?"
"""How a name begins that stands for one axis of one value, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Size:
    """A sum with at least one name in it; a plain number is an `int`.

    Attributes:
        terms: products of names and how often each is taken, sorted.
    """

    terms: tuple[tuple[Product, Fraction], ...]

    @property
    def label(self) -> str | None:
        """As `value_info` has it; None where that is more than a multiple of one named axis."""
        if len(self.terms) != 1 or len(self.terms[0][0]) != 1:
            return None
        ((name,), factor) = self.terms[0]
        if name.startswith(UNKNOWN) or factor < 0:
            return None
        times = f"{name}*{factor.numerator}" if factor.numerator > 1 else name
        return f"{times}/{factor.denominator}" if factor.denominator > 1 else times

    @property
    def positive(self) -> bool:
        """Whether nothing is subtracted in it: it is at least 1 wherever its names are."""
        return all(factor > 0 for _, factor in self.terms)


Axis = int | Size


def named(name: str) -> Size:
    """The size of a free axis."""
    return Size((((name,), Fraction(1)),))


def terms_of(axis: Axis) -> Mapping[Product, Fraction]:
    """Products and factors; a number is the factor of no names."""
    return {(): Fraction(axis)} if isinstance(axis, int) else dict(axis.terms)


def from_terms(terms: Mapping[Product, Fraction]) -> Axis:
    """The axis; whole where no name is left."""
    left = {names: factor for names, factor in terms.items() if factor}
    if all(not names for names in left):
        return int(left.get((), 0))
    return Size(tuple(sorted(left.items())))


def at(axis: Axis, sizes: Mapping[str, int]) -> int:
    """The number at some sizes of the named axes; any other name counts as 1."""
    terms = terms_of(axis).items()
    return int(sum(factor * prod(sizes.get(name, 1) for name in names) for names, factor in terms))


def plus(*axes: Axis) -> Axis:
    """The sum."""
    total: dict[Product, Fraction] = {}
    for axis in axes:
        for names, factor in terms_of(axis).items():
            total[names] = total.get(names, Fraction(0)) + factor
    return from_terms(total)


def times(*axes: Axis) -> Axis:
    """The product."""
    result: dict[Product, Fraction] = {(): Fraction(1)}
    for axis in axes:
        total: dict[Product, Fraction] = {}
        for names, factor in result.items():
            for more, other in terms_of(axis).items():
                key = tuple(sorted(names + more))
                total[key] = total.get(key, Fraction(0)) + factor * other
        result = total
    return from_terms(result)


def minus(axis: Axis, other: Axis) -> Axis:
    """The difference."""
    return plus(axis, times(other, -1))


def floored(axis: Axis, divisor: int) -> Axis | None:
    """A division that rounds down; None where what is left over depends on a free size."""
    result: dict[Product, Fraction] = {}
    for names, factor in terms_of(axis).items():
        part = factor / divisor
        if names and (part * prod(MULTIPLES.get(n, 1) for n in names)).denominator != 1:
            return None
        result[names] = part if names else Fraction(floor(part))
    return from_terms(result)


def quotient(over: Sequence[Axis], under: Sequence[Axis]) -> Axis | None:
    """A product divided by another that it is a multiple of; None where that is not to be seen."""
    left, right = Counter(over), Counter(under)
    shared = left & right
    numerator = times(*(left - shared).elements())
    denominator = terms_of(times(*(right - shared).elements()))
    if len(denominator) != 1:
        return None
    ((names, divisor),) = denominator.items()
    result: dict[Product, Fraction] = {}
    for product, factor in terms_of(numerator).items():
        kept = Counter(product)
        if not divisor or Counter(names) - kept:
            return None
        result[tuple(sorted((kept - Counter(names)).elements()))] = factor / divisor
    if result.get((), Fraction(0)).denominator != 1:
        return None
    return from_terms(result)
