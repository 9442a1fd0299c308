"""Random words for decisions: 32 bits at an address, the same on every machine and in every order.

The word of a digit is addressed by (seed, image, stage, digit, position) and nothing else: neither
groups, batch nor cut can change it. `cascade.numerics.noise` has the generator.
"""

import numpy as np

from cascade.errors import InvalidRequest
from cascade.numerics.noise import CHUNK, philox
from cascade.request import MAX_IMAGE_INDEX, MAX_SEED
from cascade.types import Words

WORDS_PER_BLOCK = 4


def words(count: int, *, seed: int, image: int, stage: int, digit: int) -> Words:
    """The words of one digit of a picture, `[count]` uint32; see `words_of_digits`."""
    return words_of_digits(count, 1, seed=seed, image=image, stage=stage, first=digit)[0]


def words_of_digits(
    count: int, digits: int, *, seed: int, image: int, stage: int, first: int = 0
) -> tuple[Words, ...]:
    """The words of some digits of a picture.

    Args:
        count: values of the picture; word `(y * width + x) * 3 + c` is that of channel `c` there.
        digits: how many.
        seed: 0 to 2^64 - 1.
        image: which picture of the request, 0 to 2^32 - 1.
        stage: position of the component in the cascade.
        first: number of the first digit, counted over all planes.

    Returns:
        `[count]` uint32 of each digit.

    Raises:
        InvalidRequest: the seed or the image index is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequest(f"seed: expected 0 to 2^64 - 1, got {seed}", field="seed")
    if not 0 <= image <= MAX_IMAGE_INDEX:
        raise InvalidRequest(
            f"image_index: expected 0 to 2^32 - 1, got {image}", field="image_index"
        )
    found = np.empty((digits, -(-count // WORDS_PER_BLOCK), WORDS_PER_BLOCK), np.uint32)
    for begin in range(0, found.shape[1], CHUNK):
        blocks = np.arange(begin, min(begin + CHUNK, found.shape[1]), dtype=np.uint32)
        # All digits in one call: of a small picture its calls take longer than its numbers.
        digit = np.repeat(np.arange(first, first + digits), len(blocks))
        made = philox((np.tile(blocks, digits), digit, stage, image), seed)
        found[:, begin : begin + CHUNK] = made.reshape(digits, len(blocks), WORDS_PER_BLOCK)
    return tuple(found.reshape(digits, -1)[:, :count])
