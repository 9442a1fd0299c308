"""Counter-based noise: published known answers and a slow second implementation, to the bit."""

import hashlib
import math
import struct
from statistics import NormalDist

import numpy as np
import pytest

from cascade.errors import InvalidRequest
from cascade.numerics.noise import (
    AUGMENTATION,
    CHUNK,
    NORMAL_TABLE_SHA256,
    START,
    normal_table,
    normals,
)
from cascade.numerics.noise import philox as philox_words

HOME = {"seed": 7, "image": 0, "stage": 0, "step": 0}


def hex_words(text: str) -> list[int]:
    """The 32-bit words that a row of the Random123 table writes."""
    return [int(word, 16) for word in text.split()]


def philox_by_hand(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10 of one counter, in Python integers."""
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            (right >> 32) ^ b ^ k0,
            right % 2**32,
            (left >> 32) ^ d ^ k1,
            left % 2**32,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def normal_by_hand(position: int, *, seed: int, image: int, stage: int, step: int) -> float:
    """One value of the documented recipe, without arrays or table."""
    block, place = divmod(position, 8)
    word = philox_by_hand([block, step, stage, image], [seed % 2**32, seed >> 32])[place // 2]
    u = word >> 16 if place % 2 else word & 0xFFFF
    quantile = NormalDist().inv_cdf((u + 0.5) / 65536)
    return float(struct.unpack("<f", struct.pack("<f", quantile))[0])


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            "00000000 00000000 00000000 00000000",
            "00000000 00000000",
            "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    """Philox 4x32-10 gives the answers published with Random123."""
    first, *rest = hex_words(counter)
    low, high = hex_words(key)
    words = philox_words((np.array([first], np.uint32), *rest), low | high << 32)
    assert words.dtype == np.uint32
    assert words.tolist() == [hex_words(answer)]


def test_philox_treats_counters_apart() -> None:
    """Many counters at once give what each gives alone, row by row."""
    first = np.array([0, 1, 2, 2**31, 2**32 - 1], np.uint32)
    words = philox_words((first, 3, 5, 8), 0x0123456789ABCDEF)
    alone = [philox_by_hand([int(c), 3, 5, 8], [0x89ABCDEF, 0x01234567]) for c in first]
    assert words.tolist() == alone


def test_table_has_the_published_hash() -> None:
    """The table's little-endian bytes hash to the constant that other languages check too."""
    digest = hashlib.sha256(normal_table().astype("<f4").tobytes()).hexdigest()
    assert digest == NORMAL_TABLE_SHA256


def test_table_is_odd_to_the_bit() -> None:
    """Entry u and entry 65535 - u are opposite, so the mean is exactly zero."""
    table = normal_table()
    np.testing.assert_array_equal(table, -table[::-1])


def test_table_holds_quantiles() -> None:
    """The normal distribution function of entry u is (u + 1/2) / 65536, by the error function."""
    table = normal_table()
    assert (table.shape, table.dtype) == ((65536,), np.float32)
    probability = [0.5 * math.erfc(-float(x) / math.sqrt(2)) for x in table]
    # Rounding x to float32 moves the probability by at most x phi(x) 2^-24 < 1.5e-8.
    np.testing.assert_allclose(probability, (np.arange(65536) + 0.5) / 65536, rtol=0, atol=1.5e-8)


def test_table_moments() -> None:
    """Variance 0.99998 and largest magnitude 4.32, the price that the module states."""
    table = normal_table().astype(np.float64)
    assert np.mean(table**2) == pytest.approx(0.99998, abs=5e-6)
    assert table.max() == pytest.approx(4.32, abs=5e-3)


def test_table_is_read_only() -> None:
    """Nobody can change the table that all share."""
    with pytest.raises(ValueError, match="read-only"):
        normal_table()[0] = 0.0


@pytest.mark.parametrize(
    "address",
    [
        {"seed": 0, "image": 0, "stage": 0, "step": 0},
        {"seed": 2**64 - 1, "image": 2**32 - 1, "stage": 2, "step": START},
        {"seed": 0x0123456789ABCDEF, "image": 3, "stage": 1, "step": AUGMENTATION},
        {"seed": 1 << 32, "image": 1, "stage": 0, "step": 999},
    ],
)
def test_normals_agree_with_the_recipe_to_the_bit(address: dict[str, int]) -> None:
    """A second implementation, one value at a time, gives the same floats."""
    values = normals((3, 9), **address)
    assert values.dtype == np.float32
    assert values.reshape(-1).tolist() == [normal_by_hand(p, **address) for p in range(27)]


def test_normals_do_not_show_where_the_work_was_cut() -> None:
    """Around the border between two chunks of counters the recipe still holds."""
    border = CHUNK * 8
    tail = normals((border + 21,), **HOME)[border - 11 :]
    assert tail.tolist() == [normal_by_hand(border - 11 + k, **HOME) for k in range(32)]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64])
def test_first_values_do_not_depend_on_how_many_follow(count: int) -> None:
    """A short array is the beginning of a long one."""
    np.testing.assert_array_equal(normals((count,), **HOME), normals((100,), **HOME)[:count])


@pytest.mark.parametrize("shape", [(60,), (3, 4, 5), (1, 3, 2, 10), (60, 1)])
def test_values_fill_the_shape_in_c_order(shape: tuple[int, ...]) -> None:
    """The shape only folds the line of values, last axis fastest."""
    values = normals(shape, **HOME)
    assert values.shape == shape
    np.testing.assert_array_equal(values.reshape(-1, order="C"), normals((60,), **HOME))


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"seed": 7 + 2**32}, {"image": 1}, {"stage": 1}, {"step": 1}, {"step": START}],
    ids=str,
)
def test_each_part_of_the_address_gives_unrelated_values(change: dict[str, int]) -> None:
    """Changing one part of the address gives an array uncorrelated with the first."""
    count = 1 << 16
    here, there = normals((count,), **HOME), normals((count,), **HOME | change)
    # The mean product of unrelated values has standard error 1 / sqrt(n); five of them.
    assert abs(np.mean(here.astype(np.float64) * there)) < 5 / math.sqrt(count)


def test_parts_of_the_address_do_not_stand_for_each_other() -> None:
    """Image 1, stage 1 and step 1 are three different places."""
    places = [HOME | {part: 1} for part in ("seed", "image", "stage", "step")]
    assert len({normals((8,), **place).tobytes() for place in places}) == 4


def test_start_and_augmentation_are_different_draws() -> None:
    """Initial noise and augmentation noise of one picture are uncorrelated with each other."""
    count = 1 << 16
    start = normals((count,), **HOME | {"step": START}).astype(np.float64)
    augmentation = normals((count,), **HOME | {"step": AUGMENTATION})
    assert abs(np.mean(start * augmentation)) < 5 / math.sqrt(count)


def test_moments_of_many_values() -> None:
    """A million values have mean 0, variance 1, skewness 0 and kurtosis 3."""
    count = 1 << 20
    x = normals((count,), **HOME).astype(np.float64)
    # Standard errors of the first four moments of n normal values; five of each.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert np.mean(x**power) == pytest.approx(moment, abs=5 * math.sqrt(variance / count))


def test_neighbours_are_uncorrelated() -> None:
    """Values 1, 2, 4 and 8 places apart (halves of a word, words, blocks) are unrelated."""
    count = 1 << 18
    x = normals((count,), **HOME).astype(np.float64)
    for lag in (1, 2, 4, 8):
        assert abs(np.mean(x[lag:] * x[:-lag])) < 5 / math.sqrt(count - lag)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"image": -1}, "image_index"),
        ({"image": 2**32}, "image_index"),
    ],
)
def test_numbers_out_of_range_name_the_field(change: dict[str, int], field: str) -> None:
    """A seed or an image index out of range is refused, with the field and the number."""
    with pytest.raises(
        InvalidRequest, match=f"^{field}: .*got {next(iter(change.values()))}$"
    ) as e:
        normals((8,), **HOME | change)
    assert e.value.field == field
