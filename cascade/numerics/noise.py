"""Counter-based noise: the same numbers on every machine, at every cut, in every batch.

A normal number is addressed by (seed, image, stage, step, position) and nothing else:

1. `philox(counter, key)` is Philox 4x32-10. The key is the 64-bit seed, low word first. The counter
   is (block, step, stage, image), 32 bits each; block `k` feeds values `8 k` to `8 k + 7`.
2. Each of the four output words gives two 16-bit numbers, low half first.
3. A 16-bit number `u` becomes the standard normal quantile of `(u + 1/2) / 65536`, looked up in a
   table of 65,536 float32 values (`normal_table`; quantiles computed in double precision, rounded
   once). Nothing after the integers is computed at run time, so two languages agree to the bit as
   soon as their tables do: `NORMAL_TABLE_SHA256` is the table's hash as little-endian bytes.
4. Values fill the array in C order.

The price of the table: magnitudes end at 4.32 sigma (a Gaussian goes beyond once in 65,536 draws)
and the variance is 0.99998. docs/decisions/0002-noise.md has the reasons.

References:
    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox, Random123).
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cascade.errors import InvalidRequest
from cascade.request import MAX_SEED
from cascade.types import Array, Words

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
CHUNK = 1 << 15
"""Counters worked on at a time: fewer and numpy's calls cost more than the work, more and their
words leave the processor's cache."""

NORMAL_TABLE_SHA256 = "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"
START, AUGMENTATION = 0xFFFFFFFF, 0xFFFFFFFE
"""Step numbers of draws that belong to no sampling step: initial noise, augmentation."""
KNOWN, JUMP = 1 << 31, 1 << 30
"""Added to a step's number: what known pixels are noised with, and what a step that is taken again
begins with."""
AGAIN = 1 << 20
"""Times the number of the repetition, added to the number of a step that is taken again."""


def philox(counter: tuple[Words, int | Array, int, int], seed: int) -> Words:
    """Philox 4x32-10 of counters that differ in their first word, and perhaps in their second.

    Args:
        counter: first words `[n]` uint32, then the three other words shared by all; the second may
            be `[n]` of whole numbers from 0.
        seed: 64-bit key, low word first.

    Returns:
        `[n, 4]` uint32.
    """
    first, *rest = counter
    c0 = first.astype(np.uint64)
    # One value each: what the counters share is worked out once, until the second round mixes it.
    c1, c2, c3 = (np.asarray(word, np.uint64).reshape(-1) for word in rest)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = (product1 >> SHIFT) ^ c1, (product0 >> SHIFT) ^ c3
        c0 ^= np.uint64(k0)
        c2 ^= np.uint64(k1)
        product0 &= LOW
        product1 &= LOW
        c1, c3 = product1, product0
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    words = np.empty((len(first), 4), np.uint32)
    for column, word in enumerate((c0, c1, c2, c3)):
        words[:, column] = word
    return words


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.float32]:
    """Quantiles of the standard normal distribution, shape `[65536]` float32, read-only."""
    quantile = NormalDist().inv_cdf
    upper = [quantile((u + 0.5) / 65536) for u in range(32768, 65536)]
    # The lower half is the upper one mirrored, so that the table is odd to the last bit.
    half = np.array(upper, np.float32)
    table = np.concatenate([-half[::-1], half])
    table.flags.writeable = False
    return table


def normals(
    shape: tuple[int, ...], *, seed: int, image: int, stage: int, step: int
) -> NDArray[np.float32]:
    """Standard normal numbers at one address.

    Args:
        shape: shape of the array; its first values do not depend on how many follow.
        seed: 0 to 2^64 - 1.
        image: which picture of the request, 0 to 2^32 - 1.
        stage: position of the component in the cascade.
        step: sampling step, or `START` or `AUGMENTATION`.

    Returns:
        float32 of that shape, -4.32 to 4.32.

    Raises:
        InvalidRequest: the seed or the image index is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequest(f"seed: expected 0 to 2^64 - 1, got {seed}", field="seed")
    if not 0 <= image < 2**32:
        raise InvalidRequest(
            f"image_index: expected 0 to 2^32 - 1, got {image}", field="image_index"
        )
    count = int(np.prod(shape))
    blocks = -(-count // 8)
    values = np.empty(blocks * 8, np.float32)
    table = normal_table()
    for begin in range(0, blocks, CHUNK):
        end = min(begin + CHUNK, blocks)
        words = philox((np.arange(begin, end, dtype=np.uint32), step, stage, image), seed)
        halves = words.astype("<u4", copy=False).view("<u2").reshape(-1)
        # No number is beyond the table's end: `wrap` never wraps, it saves the check of each.
        np.take(table, halves, out=values[begin * 8 : end * 8], mode="wrap")
    return values[:count].reshape(shape)
