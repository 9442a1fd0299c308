"""What the server sends is checked before it is decoded: sizes of pictures, shapes of contexts."""

import numpy as np
import pytest

from cascade.codecs.image import ImageFormat, encode_image
from cascade.codecs.tensor import PackedTensor, pack_tensor
from cascade.errors import TransportError
from runtime_client.remote.event_decoder import only, unpack_context
from runtime_client.remote.image_payload import decode_payload, encode_smallest
from wire.payloads import EncodedImage

NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
FLAT = np.full((64, 64, 3), 7, np.uint8)


def encoded(width: int, height: int, format_: ImageFormat, data: bytes) -> EncodedImage:
    """An image as it would come."""
    return EncodedImage(width=width, height=height, format=format_, data=data)


def test_noise_travels_raw_and_flat_colours_as_webp() -> None:
    """Whichever is smaller, and exact either way."""
    assert encode_smallest(NOISE).format == "raw"
    assert encode_smallest(FLAT).format == "webp"
    for image in (NOISE, FLAT):
        size = image.shape[0]
        back = decode_payload(encode_smallest(image), only(size), only(size), what="picture")
        np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize(
    "image",
    [
        encoded(100_000, 100_000, "png", encode_image(NOISE, "png")),
        encoded(9, 8, "raw", NOISE.tobytes()),
        encoded(8, 8, "raw", b"short"),
        encoded(8, 8, "png", b"no picture"),
        encoded(8, 8, "png", encode_image(FLAT, "png")),
    ],
)
def test_a_picture_of_another_size_is_refused(image: EncodedImage) -> None:
    """The size is known beforehand; nothing else is decoded."""
    with pytest.raises(TransportError):
        decode_payload(image, only(8), only(8), what="picture")


def test_a_context_is_unpacked() -> None:
    """Bit for bit."""
    context = np.arange(12, dtype=np.float16).reshape(3, 4)
    np.testing.assert_array_equal(unpack_context(pack_tensor(context)), context)


@pytest.mark.parametrize(
    "packed",
    [
        None,
        PackedTensor((2, 2), "float16", b"123"),
        PackedTensor((2, 2), "float32", bytes(16)),
        PackedTensor((4,), "float16", bytes(8)),
        PackedTensor((1, 1), "", bytes(2)),
        PackedTensor((1, 1), "float16", b"\x00\x7c"),
    ],
    ids=["none", "short", "float32", "one-dimensional", "unknown", "infinite"],
)
def test_a_broken_context_is_the_servers_fault(packed: PackedTensor | None) -> None:
    """Bytes that do not fit, another dtype or rank, or no finite number: a TransportError."""
    with pytest.raises(TransportError):
        unpack_context(packed)
