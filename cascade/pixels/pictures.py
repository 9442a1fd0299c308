"""Pictures of one stage walked through pass by pass: what networks are asked, what is decided.

The same walk serves a stage that draws, an evaluation that counts bits and a coder: they differ in
the decider alone. One vectorised call per question for all values of all rows. Knows graph inputs
by name; no engine.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from cascade.pixels.canvas import Canvas
from cascade.pixels.copying import candidates_of
from cascade.pixels.guess import guess_of
from cascade.pixels.logits import Logits
from cascade.pixels.mixture import PLAIN, Allowed, Candidates, Mixture, Sharpness
from cascade.pixels.order import filled
from cascade.pixels.planes import BITS, Plane
from cascade.pixels.scheme import Pass, PassScheme, passes_of
from cascade.pixels.weights import Weights, chosen
from cascade.types import Array, Words


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Values that are decided together: `m` of one channel in each of `B` pictures, flattened.

    Attributes:
        plane: which bits.
        first_digit: number of the plane's first digit.
        rows: `[B * m]` int64, in which picture.
        values: `[B * m]` int64, which value of it: `(y * width + x) * 3 + c`.
        guess: `[B * m]` uint8, what the symbols are distances from.
    """

    plane: Plane
    first_digit: int
    rows: Array
    values: Array
    guess: Array


class Decider(Protocol):
    """Chooses digits by their weights: draws them, or knows them."""

    def choose(self, turn: Turn, digit: int, weights: Weights) -> Array:
        """The choices, `[n]` uint8, of a turn's digit 0 or 1, given its weights `[choices, n]`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Draws every digit by its word.

    Attributes:
        words: of each digit, `[values]` uint32; the same of every row, or `[B, values]`.
    """

    words: tuple[Words, ...]

    def choose(self, turn: Turn, digit: int, weights: Weights) -> Array:
        """See `Decider`: `[choices, n]` uint64 to `[n]` uint8."""
        words = self.words[turn.first_digit + digit]
        return chosen(weights, words[turn.values if words.ndim == 1 else (turn.rows, turn.values)])


class Recorded:
    """Knows the truth, and counts what it takes to say it: bits, and a coder's intervals."""

    def __init__(self, truth: Array) -> None:
        """Nothing was asked.

        Args:
            truth: `[B, H, W, 3]` uint8.
        """
        self._truth = truth.reshape(len(truth), -1)
        self.bits = np.zeros(self._truth.shape)
        self.intervals: list[tuple[Array, Array, Array]] = []

    def choose(self, turn: Turn, digit: int, weights: Weights) -> Array:
        """The true digits `[n]` uint8; `bits` grow, and (begin, size, total) is kept of each."""
        symbols = turn.plane.symbol_of(self._truth[turn.rows, turn.values], turn.guess)
        shift = sum(turn.plane.digit_bits[digit + 1 :])
        found: Array = symbols >> shift & (1 << turn.plane.digit_bits[digit]) - 1
        at = np.arange(len(found))
        sums = np.cumsum(weights, axis=0)
        size, total = weights[found, at], sums[-1]
        self.intervals.append((sums[found, at] - size, size, total))
        with np.errstate(divide="ignore"):
            # What cannot be said takes infinitely many bits.
            spent = np.log2(total.astype(np.float64)) - np.log2(size.astype(np.float64))
        self.bits[turn.rows, turn.values] += spent
        return found


class Pictures:
    """`B` pictures in the making, all at the same pass. Mutable: `begin`, then `decide`."""

    def __init__(
        self, scheme: PassScheme, size: tuple[int, int], parent: Array | None, *, rows: int = 1
    ) -> None:
        """Nothing is made.

        Args:
            scheme: of the stage.
            size: height and width of the pictures.
            parent: `[B, h, w, 3]` uint8, or None.
            rows: `B`.
        """
        self.scheme = scheme
        self.size = size
        small = None if parent is None else (int(parent.shape[1]), int(parent.shape[2]))
        self.passes = passes_of(scheme, size, small)
        self.canvas = Canvas(size, parent, rows)
        if scheme.parent == "subsample":
            self.canvas.give_corners()
        if scheme.keep_mean:
            self.canvas.keep_means()
        self._rows, self._most = rows, max(len(step.targets) for step in self.passes)
        self._now: Pass = self.passes[0]
        nothing: Array = np.zeros(0)
        # Channels first where they are worked on one by one: guess and symbols `[3, B, n]`,
        # candidates `[3, B, K, n]`, match `[B, K, n]`.
        self._guess = self._symbols = self._candidates = self._match = nothing

    def begin(self, index: int) -> dict[str, Array]:
        """The body's inputs of a pass, `[B, ...]`, without those that are not of pictures.

        Args:
            index: of the pass; in order, each once.

        Returns:
            `canvas`, `known`, `low_res` (where there is a parent), float32; `pass_index`,
            `targets`, int64.
        """
        step = self._now = self.passes[index]
        values, decided = self.canvas.values(), self.canvas.decided
        # Channels by passes: the pixel's earlier channels must not change guess or candidates.
        if step.channels[0] == 0:
            self._look_around(step, values, decided)
        shown = decided if self.scheme.channel_passes == "passes" else decided[..., :1]
        inputs = {
            "canvas": planar(values),
            "known": planar(shown) / np.float32(BITS),
            "pass_index": np.full(self._rows, index, np.int64),
            "targets": np.tile(filled(step.targets, self._most), (self._rows, 1)),
        }
        if self.canvas.parent is not None:
            inputs["low_res"] = planar(self.canvas.parent)
        return inputs

    def _look_around(self, step: Pass, values: Array, decided: Array) -> None:
        """Guess and candidates of a group, once for all its channels."""
        known: Array = decided >= step.plane.decided
        targets = np.tile(step.targets, (self._rows, 1))
        parent, scheme = self.canvas.parent, self.scheme
        copies = scheme.parent_copies, scheme.canvas_copies
        self._guess = channels_first(guess_of(scheme.guess, targets, values, known, parent))
        found, self._match = candidates_of(copies, targets, values, known, parent)
        self._candidates = channels_first(found)
        for channel in range(3) if step.first_digit else ():
            # Bits of earlier planes are decided: no guess has others, and nothing that has others
            # can be copied.
            low, high = self.canvas.bounds(step.targets, channel)
            np.clip(self._guess[channel], low, high, out=self._guess[channel])
            there = self._candidates[channel]
            self._match &= (there >= low[:, None]) & (there <= high[:, None])
        self._symbols = np.full((3, *targets.shape), step.plane.symbols, np.int64)

    def heads_inputs(self, channel: int) -> dict[str, Array]:
        """The heads' inputs of a channel beside the features.

        Args:
            channel: one of the pass's, in order.

        Returns:
            `earlier`, `[B, n, 2]` int64, and where anything can be copied `match`, `[B, n, K]`
            float32.
        """
        del channel  # what is decided already says which
        earlier = np.stack([self._symbols[0], self._symbols[1]], axis=2)
        inputs = {"earlier": filled(earlier, self._most, axis=1)}
        if self.scheme.candidates:
            match = np.ascontiguousarray(self._match.transpose(0, 2, 1), dtype=np.float32)
            inputs["match"] = filled(match, self._most, axis=1)
        return inputs

    def decide(
        self, channel: int, logits: Logits, decider: Decider, sharpness: Sharpness = PLAIN
    ) -> None:
        """Decide a channel of the pass.

        Args:
            channel: one of the pass's, in order.
            logits: the heads' answers, `[B * n, ...]` with the filled-up targets.
            decider: chooses.
            sharpness: temperature and floor.
        """
        step, plane = self._now, self._now.plane
        guess = self._guess[channel]
        symbols = plane.symbol_of(self._candidates[channel], guess[:, None])
        for turn in step.turns:
            places, near = step.targets[turn], guess[:, turn]
            asked = Turn(
                plane,
                step.first_digit,
                np.repeat(np.arange(self._rows), len(turn)),
                np.tile(places * 3 + channel, self._rows),
                near.reshape(-1),
            )
            candidates = None
            if self.scheme.candidates:
                candidates = Candidates(columns(symbols, turn), columns(self._match, turn))
            question = Mixture(plane, candidates, self._allowed(places, channel, near), sharpness)
            choose = partial(decider.choose, asked)
            found = question.decide(self._rows_of(logits, turn), choose).reshape(self._rows, -1)
            self._symbols[channel][:, turn] = found
            self.canvas.decide(places, channel, plane, plane.part_of(found, near))
        decided = self._symbols[channel].astype(np.uint8)
        self._match = self._match & (symbols == decided[:, None])

    def _rows_of(self, logits: Logits, turn: Array) -> Logits:
        """The answers for the targets of a turn."""
        if len(turn) == self._most:
            return logits
        return logits.rows((np.arange(self._rows)[:, None] * self._most + turn).reshape(-1))

    def _allowed(self, places: Array, channel: int, guess: Array) -> Allowed | None:
        """The symbols that keep the mean."""
        bounds = self.canvas.allowed(places, channel)
        if bounds is None:
            return None
        plane = self._now.plane
        first, last = bounds
        return Allowed(
            plane.symbol_of(first, guess).reshape(-1),
            (plane.part(last) - plane.part(first)).reshape(-1),
        )

    def preview(self) -> Array:
        """`[B, H, W, 3]` uint8: what is known, and a guess elsewhere."""
        values = self.canvas.values()
        known: Array = self.canvas.decided > 0
        if self.scheme.guess == "zero":
            # The mean of what is known says more than black.
            count = np.maximum(known.sum(axis=(1, 2), keepdims=True), 1)
            guess = values.sum(axis=(1, 2), keepdims=True, dtype=np.int64) // count
        else:
            every = np.tile(np.arange(self.size[0] * self.size[1]), (self._rows, 1))
            parent = self.canvas.parent
            guess = guess_of(self.scheme.guess, every, values, known, parent).reshape(values.shape)
        return np.where(known, values, guess.astype(np.uint8))


def planar(pictures: Array) -> Array:
    """`[B, H, W, C]` to `[B, C, H, W]` float32, contiguous."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)


def channels_first(values: Array) -> Array:
    """Any dtype, `[B, n, 3]` or `[B, K, n, 3]` with the last axis first, contiguous."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def columns(values: Array, turn: Array) -> Array:
    """Any dtype, `[B, K, n]` at a turn's targets `[m]`: `[K, B * m]`."""
    rows, count, targets = values.shape
    chosen_ones = values if len(turn) == targets else values[..., turn]
    return np.moveaxis(chosen_ones, 1, 0).reshape(count, rows * len(turn))
