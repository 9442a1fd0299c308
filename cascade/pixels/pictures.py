"""Pictures of one stage walked through pass by pass: what networks are asked, what is decided.

The same walk serves a stage that draws, an evaluation that counts bits and a coder: they differ in
the decider alone. One vectorised call per question for all values of all rows. Knows graph inputs
by name; no engine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from cascade.pixels.canvas import Canvas
from cascade.pixels.guess import guess_of
from cascade.pixels.layout import Block, layouts_of
from cascade.pixels.logits import Logits
from cascade.pixels.mixture import PLAIN, Allowed, Candidates, Mixture, Sharpness
from cascade.pixels.order import filled
from cascade.pixels.planes import BITS, Plane
from cascade.pixels.scheme import CHANNELS, Pass, PassScheme
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


@dataclass(frozen=True, slots=True, eq=False)
class ChannelQuestion:
    """One question to the heads: a block's values of one channel, and what is known about them.

    Attributes:
        channel: 0 to 2.
        block: which values.
        turn: the same for a decider.
        mixture: how their weights are made.
    """

    channel: int
    block: Block
    turn: Turn
    mixture: Mixture


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
        return chosen(weights, self.words_of(turn, digit))

    def words_at(self, turn: Turn) -> tuple[Words, ...]:
        """The words of a turn, `[n]` uint32 of each digit."""
        return tuple(self.words_of(turn, digit) for digit in range(len(turn.plane.digit_bits)))

    def words_of(self, turn: Turn, digit: int) -> Words:
        """The words of a turn's digit 0 or 1, `[n]` uint32."""
        words = self.words[turn.first_digit + digit]
        found: Words = words[turn.values if words.ndim == 1 else (turn.rows, turn.values)]
        return found


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
        self.canvas = Canvas(size, parent, rows)
        self._layouts = layouts_of(scheme, size, self.canvas.slots.small, rows)
        if scheme.parent == "subsample":
            self.canvas.give_corners()
        if scheme.keep_mean:
            self.canvas.keep_means()
        self._rows, self._now = rows, self._layouts[0]
        nothing: Array = np.zeros(0)
        self._parent = None if parent is None else planar(np.moveaxis(parent, 3, 0))
        # Guess `[3, B * n]`, candidates' symbols `[3, K, B * n]`, match `[K, B * n]`.
        self._guess = self._symbols = self._match = nothing
        # Symbols of the channel that is being decided, `[B * n]` uint8.
        self._decided = nothing
        self._earlier = np.zeros((rows, self._now.targets.shape[1], 2), np.int64)

    @property
    def passes(self) -> tuple[Pass, ...]:
        """In order."""
        return tuple(layout.step for layout in self._layouts)

    def begin(self, index: int) -> dict[str, Array]:
        """The body's inputs of a pass, `[B, ...]`, without those that are not of pictures.

        Args:
            index: of the pass; in order, each once.

        Returns:
            `canvas`, `known`, `low_res` (where there is a parent), float32; `pass_index`,
            `targets`, int64.
        """
        self._now = self._layouts[index]
        step, self._decided = self._now.step, np.empty(len(self._now.slots), np.uint8)
        # Channels by passes: the pixel's earlier channels must not change guess or candidates.
        if step.channels[0] == 0:
            self._look_around()
        shown = self.canvas.planar_decided[: 3 if self.scheme.channel_passes == "passes" else 1]
        inputs = {
            "canvas": planar(self.canvas.planar),
            "known": planar(shown) / np.float32(BITS),
            "pass_index": np.full(self._rows, index, np.int64),
            "targets": self._now.targets.copy(),
        }
        if self._parent is not None:
            inputs["low_res"] = self._parent.copy()
        return inputs

    def _look_around(self) -> None:
        """Guess and candidates of a group, once for all its channels."""
        now, plane = self._now, self._now.step.plane
        usable = self.canvas.usable(plane.decided)
        candidates = self.canvas.at(now.candidates)
        self._match = usable[now.candidates]
        self._guess = self._guesses(usable)
        if not plane.is_first:
            # Bits of earlier planes are decided: no guess has others, and nothing that has others
            # can be copied.
            ends = [self.canvas.bounds(now.slots, channel, plane) for channel in range(3)]
            low, high = (np.stack(end) for end in zip(*ends, strict=True))
            self._guess = np.clip(self._guess, low, high)
            inside = (candidates >= low[:, None]) & (candidates <= high[:, None])
            self._match &= inside.all(axis=0)
        self._symbols = plane.symbol_of(candidates, self._guess[:, None])
        self._earlier[:] = plane.symbols

    def _guesses(self, usable: Array) -> Array:
        """Of the pass's values, `[3, B * n]` uint8; `usable` is of slots, `[B * slots]` bool."""
        now, rule = self._now, self.scheme.guess
        if now.cells is None or rule == "zero":
            return np.zeros((3, len(now.slots)), np.uint8)
        if rule == "parent":
            return self.canvas.at(now.cells)
        return self.canvas.cell_guesses(usable)[:, now.cells]

    def heads_inputs(self, channel: int) -> dict[str, Array]:
        """The heads' inputs of a channel beside the features.

        Args:
            channel: one of the pass's, in order.

        Returns:
            `earlier`, `[B, n, 2]` int64, and where anything can be copied `match`, `[B, n, K]`
            float32.
        """
        del channel  # what is decided already says which
        inputs = {"earlier": self._earlier.copy()}
        if self.scheme.candidates:
            match = self._match.reshape(self.scheme.candidates, self._rows, -1).transpose(1, 2, 0)
            given = match.astype(np.float32, order="C")
            inputs["match"] = filled(given, self._earlier.shape[1], axis=1)
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
        for asked in self.questions(channel, sharpness):
            choose = partial(decider.choose, asked.turn)
            self.answer(asked, asked.mixture.decide(logits.rows(asked.block.answers), choose))

    def questions(self, channel: int, sharpness: Sharpness = PLAIN) -> Iterator[ChannelQuestion]:
        """What is asked about a channel of the pass; the first is known before the heads answer.

        Each is to be answered before the next one is asked for, which may follow from it.

        Args:
            channel: one of the pass's, in order.
            sharpness: temperature and floor.
        """
        step = self._now.step
        for block in self._now.blocks:
            guess = self._guess[channel][block.columns]
            turn = Turn(step.plane, step.first_digit, block.rows, block.values[channel], guess)
            mixture = self._question(channel, block, guess, sharpness)
            yield ChannelQuestion(channel, block, turn, mixture)

    def answer(self, asked: ChannelQuestion, found: Array) -> None:
        """Write the symbols of a question, `[m]` uint8, into the pictures."""
        plane, block, channel = asked.turn.plane, asked.block, asked.channel
        part = plane.part_of(found, asked.turn.guess)
        self.canvas.decide(block.slots, channel, plane, part, self._cells_of(block))
        self._decided[block.columns] = found
        if channel == CHANNELS[-1] or block is not self._now.blocks[-1]:
            return
        by_row = self._decided.reshape(self._rows, -1)
        self._earlier[..., channel] = filled(by_row, self._earlier.shape[1], axis=1)
        self._match = self._match & (self._symbols[channel] == self._decided)

    def _question(self, channel: int, block: Block, guess: Array, sharpness: Sharpness) -> Mixture:
        """What is asked about a block's values, whose guesses are `[m]` uint8."""
        candidates = allowed = None
        if self.scheme.candidates:
            symbols = self._symbols[channel][:, block.columns]
            candidates = Candidates(symbols, self._match[:, block.columns])
        plane, cells = self._now.step.plane, self._cells_of(block)
        if cells is not None:
            bounds = self.canvas.allowed(block.slots, cells, channel, plane)
            if bounds is not None:
                first, last = bounds
                allowed = Allowed(
                    plane.symbol_of(first, guess), plane.part(last) - plane.part(first)
                )
        return Mixture(plane, candidates, allowed, sharpness)

    def _cells_of(self, block: Block) -> Array | None:
        """Slots of the parent's pixels of a block's values, `[m]` int64; None without a parent."""
        return None if self._now.cells is None else self._now.cells[block.columns]

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
    """`[C, B, H, W]` to `[B, C, H, W]` float32, contiguous."""
    return np.ascontiguousarray(pictures.transpose(1, 0, 2, 3), dtype=np.float32)
