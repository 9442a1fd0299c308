"""Values that are drawn after a run of the heads: of one picture, or of several in one call.

Columns do not know of each other, so that every value is the same alone and beside any others.
Knows questions, words and the heads' answers by name; neither engines nor who else is drawn.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.pixels.logits import Arithmetic, Logits
from cascade.pixels.mixture import Allowed, Candidates, Mixture
from cascade.pixels.weights import UNIT_SIXTEENTHS, Weights, chosen
from cascade.types import Array, Words

TOGETHER = 2048
"""Values of several pictures in one call: with more of them the calls are few already, and
requests decide sooner beside each other, each on its own thread."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """The values of one channel of a pass of one picture, to be drawn; see `HostWork`.

    Attributes:
        mixture: how their weights are made, of `m` values.
        words: of each digit, `[m]` uint32.
        at: which of the heads' answers: a slice, or `[m]` int64.
        arithmetic: of the component.
        guidance_16: where it is not `UNIT_SIXTEENTHS`, the heads' next row is without the text.
    """

    mixture: Mixture
    words: tuple[Words, ...]
    at: slice | Array
    arithmetic: Arithmetic
    guidance_16: int = UNIT_SIXTEENTHS

    @property
    def size(self) -> int:
        """Values: `m`."""
        return len(self.words[0])

    @property
    def key(self) -> Hashable:
        """Equal for values of one component whose weights are made alike."""
        question = self.mixture
        given = question.candidates is None, question.allowed is None
        return question.plane, question.sharpness, self.guidance_16, *given

    def alone(self, answers: Mapping[str, Array]) -> Array:
        """The symbols, `[m]` uint8, from the answers of a run of its own.

        Raises:
            StageError: the heads of an exact component answer what is no whole number.
        """
        return self.mixture.decide(logits_of([self], answers, [0]), self.choose)

    def choose(self, digit: int, weights: Weights) -> Array:
        """The choices of a digit, `[m]` uint8, by its words; of weights `[choices, m]` uint64."""
        return chosen(weights, self.words[digit])

    def together(
        self, works: Sequence["Drawing"], outputs: Mapping[str, Array], begins: Sequence[int]
    ) -> list[Array | None]:
        """The symbols of each, `[m]` uint8; see `HostWork.together`."""
        found: list[Array | None] = [None] * len(works)
        for members in packed([work.size for work in works]):
            part = [works[i] for i in members], outputs, [begins[i] for i in members]
            for number, symbols in zip(members, symbols_of(*part), strict=True):
                found[number] = symbols
        return found


def packed(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of works of some sizes, `TOGETHER` values at a time; of larger ones none."""
    members: list[int] = []
    for number in (at for at, size in enumerate(sizes) if size <= TOGETHER):
        if sum(sizes[at] for at in members) + sizes[number] > TOGETHER:
            yield members
            members = []
        members.append(number)
    if members:
        yield members


def symbols_of(
    works: Sequence[Drawing], answers: Mapping[str, Array], begins: Sequence[int]
) -> list[Array]:
    """The symbols of each work, `[m]` uint8, in one call for each digit.

    Args:
        works: of one key.
        answers: of the heads, `[rows, n, ...]` float32.
        begins: the first row of each work.
    """
    words = [joined(parts) for parts in zip(*(work.words for work in works), strict=True)]

    def choose(digit: int, weights: Weights) -> Array:
        return chosen(weights, words[digit])

    symbols = mixture_of(works).decide(logits_of(works, answers, begins), choose)
    ends = np.cumsum([work.size for work in works]).tolist()
    return [symbols[end - work.size : end] for work, end in zip(works, ends, strict=True)]


def mixture_of(works: Sequence[Drawing]) -> Mixture:
    """The question of all works."""
    first = works[0].mixture
    if len(works) == 1:
        return first
    copies = [work.mixture.candidates for work in works]
    bounds = [work.mixture.allowed for work in works]
    return replace(
        first,
        candidates=None
        if first.candidates is None
        else Candidates(gathered(copies, "symbols"), gathered(copies, "match")),
        allowed=None
        if first.allowed is None
        else Allowed(gathered(bounds, "start"), gathered(bounds, "width")),
    )


def gathered(parts: Sequence[object], name: str) -> Array:
    """An array of each part, `[..., m]` of any dtype, one behind the other."""
    return joined([getattr(part, name) for part in parts])


def joined(parts: Sequence[Array]) -> Array:
    """Arrays `[..., m]` of one dtype one behind the other; one alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def logits_of(
    works: Sequence[Drawing], answers: Mapping[str, Array], begins: Sequence[int]
) -> Logits:
    """What the heads answered, `[rows, n, ...]` float32, about all works; nothing is copied."""
    flat = {name: values.reshape(-1, values.shape[-1]) for name, values in answers.items()}
    count, first = answers["high"].shape[1], works[0]

    def rows(later: int) -> Logits:
        at = numbers_of(works, [(begin + later) * count for begin in begins])
        return Logits(flat["high"], flat.get("low"), flat.get("copy"), first.arithmetic, at=at)

    if first.guidance_16 == UNIT_SIXTEENTHS:
        return rows(0)
    return replace(rows(0), without=rows(1), guidance_16=first.guidance_16)


def numbers_of(works: Sequence[Drawing], begins: Sequence[int]) -> slice | Array:
    """Which of all answers those of some works are, `[m]` int64 or a slice.

    Args:
        works: whose `at` say it within their own answers.
        begins: the first of each one's.
    """
    found = []
    for work, begin in zip(works, begins, strict=True):
        if isinstance(work.at, slice):
            if len(works) == 1:
                return slice(begin + work.at.start, begin + work.at.stop)
            found.append(np.arange(begin + work.at.start, begin + work.at.stop))
        else:
            found.append(begin + work.at)
    return joined(found)
