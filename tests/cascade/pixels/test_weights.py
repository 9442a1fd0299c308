"""From logits to choices: the table's hash, and arithmetic against Python's whole numbers."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest

from cascade.errors import InvalidRequest, StageError
from cascade.numerics.noise import philox
from cascade.pixels.logits import Logits
from cascade.pixels.mixture import Allowed, Candidates, Mixture, Sharpness
from cascade.pixels.planes import WHOLE, Plane, planes_of
from cascade.pixels.weights import (
    LARGEST_LOGIT,
    LARGEST_WEIGHT,
    NEVER,
    WEIGHT_TABLE_SHA256,
    chosen,
    share_of,
    weight_table,
    weights_of,
    with_floor,
)
from cascade.pixels.words import words, words_of_digits


def test_the_table_is_the_one_that_the_manifest_names() -> None:
    """Its hash, and each entry by the definition."""
    table = weight_table()
    assert hashlib.sha256(table.astype("<u8").tobytes()).hexdigest() == WEIGHT_TABLE_SHA256
    assert table.tolist() == [round(LARGEST_WEIGHT * math.exp(-d / 16)) for d in range(189)]
    assert table[-1] == 1
    assert math.exp(-189 / 16) * LARGEST_WEIGHT < 0.5


def test_a_share_is_exact_at_every_size() -> None:
    """`floor(word * total / 2^32)`, up to the largest of both."""
    rng = np.random.default_rng(0)
    word = np.append(rng.integers(0, 2**32, 1000), [0, 2**32 - 1, 2**32 - 1]).astype(np.uint64)
    total = np.append(rng.integers(1, 2**63, 1000), [1, 1, 0]).astype(np.uint64)
    total[-1] = 2**64 - 1
    found = share_of(word, total).tolist()
    assert found == [w * t >> 32 for w, t in zip(word.tolist(), total.tolist(), strict=True)]


def test_a_choice_is_the_first_whose_running_sum_exceeds_the_share() -> None:
    """Against a loop over Python's numbers; what has no weight is never chosen."""
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 2**60, (9, 500)).astype(np.uint64)
    weights[rng.random(weights.shape) < 0.4] = 0
    weights[0] += weights.sum(axis=0) == 0
    word = rng.integers(0, 2**32, 500).astype(np.uint32)
    for column, w, found in zip(
        weights.T.tolist(), word.tolist(), chosen(weights, word), strict=True
    ):
        share = w * sum(column) >> 32
        assert found == next(i for i in range(9) if sum(column[: i + 1]) > share)
        assert column[found] > 0


def test_temperature_stretches_distances_and_floor_drops_the_small() -> None:
    """In whole sixteenths; a floor of 16 keeps the largest alone."""
    logits = np.array([[10], [5], [-40]], np.int32)
    table = weight_table()
    assert weights_of(logits)[:, 0].tolist() == [table[0], table[5], table[50]]
    assert weights_of(logits, 8)[:, 0].tolist() == [table[0], table[10], table[100]]
    assert weights_of(logits, 24)[:, 0].tolist() == [table[0], table[3], table[33]]
    apart = np.array([[LARGEST_LOGIT], [-LARGEST_LOGIT], [NEVER]])
    for temperature in (1, 16, 64):
        assert weights_of(apart, temperature)[:, 0].tolist() == [LARGEST_WEIGHT, 1, 0]
    weights = weights_of(logits)
    assert with_floor(weights, 1)[:, 0].tolist() == [table[0], table[5], 0]
    assert with_floor(weights, 16)[:, 0].tolist() == [table[0], 0, 0]


def spoken(size: int, candidates: int, seed: int) -> tuple[Logits, Candidates]:
    """Random answers for `size` values, and what may be copied."""
    rng = np.random.default_rng(seed)

    def drawn(width: int) -> np.ndarray:
        return rng.integers(-300, 300, (size, width)).astype(np.float32)

    symbols = rng.integers(0, 256, (candidates, size)).astype(np.uint8)
    match = rng.random((candidates, size)) < 0.6
    return Logits(drawn(16), drawn(256), drawn(candidates + 1)), Candidates(symbols, match)


def probabilities(question: Mixture, logits: Logits, symbols: np.ndarray) -> list[Fraction]:
    """Of symbols `[n]`, as the digits' weights say them."""
    found = [Fraction(1)] * len(symbols)

    def choose(digit: int, weights: np.ndarray) -> np.ndarray:
        digits = symbols >> 4 if digit == 0 else symbols & 15
        for at, choice in enumerate(digits):
            found[at] *= Fraction(int(weights[choice, at]), sum(weights[:, at].tolist()))
        return digits

    assert question.decide(logits, choose).tolist() == symbols.tolist()
    return found


@pytest.mark.parametrize("candidates", [1, 17, 128])
def test_digits_say_the_mixture_exactly(candidates: int) -> None:
    """The product of both digits' shares is `c_0 T(s) + sum_k c_k [s_k = s]`, as fractions."""
    logits, copies = spoken(12, candidates, candidates)
    symbols = np.concatenate([copies.symbols[0, :6], np.arange(6, dtype=np.uint8) * 40])
    said = probabilities(Mixture(WHOLE, copies), logits, symbols)
    table = [int(weight) for weight in weight_table()]

    def shares(row: np.ndarray) -> list[Fraction]:
        weights = [table[min(int(row.max() - x), 188)] for x in row]
        return [Fraction(w, sum(weights)) for w in weights]

    for at, symbol in enumerate(symbols.tolist()):
        h, low = symbol >> 4, symbol & 15
        own = shares(logits.high[at])[h] * shares(logits.low[at, 16 * h : 16 * h + 16])[low]
        usable = np.flatnonzero(copies.match[:, at])
        c = shares(logits.copy[at, [0, *(usable + 1)]])
        copied = sum(c[1 + i] for i, k in enumerate(usable) if copies.symbols[k, at] == symbol)
        assert said[at] == c[0] * own + copied


def test_only_what_is_allowed_is_ever_chosen() -> None:
    """Whatever the weights, the word and the interval, wrapped ones and those of one symbol too."""
    logits, copies = spoken(400, 9, 3)
    rng = np.random.default_rng(4)
    start = rng.integers(0, 256, 400).astype(np.uint8)
    width = rng.choice([0, 1, 3, 20, 254, 255], 400).astype(np.uint8)
    for sharpness in (Sharpness(), Sharpness(temperature_16=9, floor_16=1)):
        question = Mixture(WHOLE, copies, Allowed(start, width), sharpness)
        word = rng.integers(0, 2**32, (2, 400)).astype(np.uint32)
        found = question.decide(logits, lambda digit, w, word=word: chosen(w, word[digit]))
        assert ((found - start) <= width).all()


def test_guidance_on_logits_is_whole_and_a_weight_of_one_changes_nothing() -> None:
    """`without + w (with - without) >> 4`, floored."""
    given, other = (np.array([[v] * 16], np.float32) for v in (100.0, 37.0))

    def logits(weight: int) -> Logits:
        return Logits(given, None, None, without=Logits(other, None, None), guidance_16=weight)

    assert logits(16).high_digit(16)[0].tolist() == [100]
    assert logits(40).high_digit(16)[0].tolist() == [37 + (63 * 40 >> 4)]
    assert logits(0).high_digit(16)[0].tolist() == [37]


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, LARGEST_LOGIT + 1.0])
def test_answers_of_an_exact_net_that_are_not_whole_are_refused(value: float) -> None:
    """They come from an engine that computes in another precision; a float net's are rounded."""
    high = np.zeros((3, 16), np.float32)
    high[1, 2] = value
    with pytest.raises(StageError, match="whole logits"):
        Logits(high, None, None).high_digit(16)
    rounded = Logits(np.full((1, 16), 1.6, np.float32), None, None, arithmetic="float")
    assert rounded.high_digit(16)[0].tolist() == [2]


def test_words_follow_from_their_address_alone() -> None:
    """The first ones do not depend on how many follow; they are Philox's own."""
    address = {"seed": 2**40 + 5, "image": 3, "stage": 2}
    many = words(1000, **address, digit=1)
    assert words(7, **address, digit=1).tolist() == many[:7].tolist()
    block = philox((np.array([2], np.uint32), 1, 2, 3), 2**40 + 5)
    assert many[8:12].tolist() == block[0].tolist()
    assert words(7, **address, digit=0).tolist() != many[:7].tolist()
    both = words_of_digits(7, 2, **address)
    assert [w.tolist() for w in both] == [words(7, **address, digit=d).tolist() for d in (0, 1)]
    for name in ("seed", "image"):
        with pytest.raises(InvalidRequest, match=name):
            words(1, **{**address, name: -1}, digit=0)


@pytest.mark.parametrize("plane", [WHOLE, *planes_of((3, 5)), *planes_of((1, 2, 5))], ids=str)
def test_a_symbol_is_undone(plane: Plane) -> None:
    """Of every value against every guess; the guess itself is the centre."""
    values, guess = (a.astype(np.uint8) for a in np.divmod(np.arange(65536), 256))
    symbols = plane.symbol_of(values, guess)
    assert symbols.max() == plane.symbols - 1
    assert (plane.part_of(symbols, guess) == plane.part(values)).all()
    assert (plane.symbol_of(guess, guess) == plane.centre).all()
