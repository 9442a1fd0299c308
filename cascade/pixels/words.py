"""Random words for decisions: 32 bits at an address, the same on every machine and in every order.

The word of a digit is addressed by (seed, image, stage, digit, position) and nothing else: neither
groups, batch nor cut can change it. `cascade.numerics.noise` has the generator.
"""

import numpy as np

from cascade.errors import InvalidRequest
from cascade.numerics.noise import philox
from cascade.request import MAX_IMAGE_INDEX, MAX_SEED
from cascade.types import Words

WORDS_PER_BLOCK = 4


def words(count: int, *, seed: int, image: int, stage: int, digit: int) -> Words:
    """The words of one digit of a picture.

    Args:
        count: values of the picture; word `(y * width + x) * 3 + c` is that of channel `c` there.
        seed: 0 to 2^64 - 1.
        image: which picture of the request, 0 to 2^32 - 1.
        stage: position of the component in the cascade.
        digit: which digit of a value, counted over all planes.

    Returns:
        `[count]` uint32.

    Raises:
        InvalidRequest: the seed or the image index is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequest(f"seed: expected 0 to 2^64 - 1, got {seed}", field="seed")
    if not 0 <= image <= MAX_IMAGE_INDEX:
        raise InvalidRequest(
            f"image_index: expected 0 to 2^32 - 1, got {image}", field="image_index"
        )
    blocks = np.arange(-(-count // WORDS_PER_BLOCK), dtype=np.uint32)
    return philox((blocks, digit, stage, image), seed).reshape(-1)[:count]
