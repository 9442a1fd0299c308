"""Images as bytes: lossless where promised, sizes believed only after the header agrees."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cascade.codecs.image import (
    FORMATS,
    ImageFormat,
    decode_image,
    encode_image,
    from_network,
    to_network,
)
from cascade.errors import ImageCodecError
from cascade.types import ImageU8

QUICK = settings(derandomize=True, deadline=None, max_examples=30)
PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
LOSSLESS: tuple[ImageFormat, ...] = ("raw", "png", "webp")
FILES: tuple[ImageFormat, ...] = ("png", "webp", "jpeg")


def noisy(height: int = 12, width: int = 7) -> ImageU8:
    """Random pixels: the hardest picture to keep."""
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def smooth(size: int = 64) -> ImageU8:
    """Slow waves of colour."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(3 * x + y), np.cos(2 * y), np.sin(x * y * 4)], axis=-1)
    return np.asarray(127.5 + 100 * waves, np.uint8)


def claiming(width: int, height: int) -> bytes:
    """A small PNG whose header, with a right checksum, claims that size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("format_", LOSSLESS)
@QUICK
@given(image=PICTURES)
def test_lossless_round_trip(format_: ImageFormat, image: ImageU8) -> None:
    """Raw, PNG and WebP give every pixel back."""
    data = encode_image(image, format_)
    again = decode_image(data, format_, (image.shape[0], image.shape[1]), field="image")
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, image)


def test_jpeg_is_close() -> None:
    """JPEG loses a little: a smooth picture stays within a few levels."""
    image = smooth()
    again = decode_image(encode_image(image, "jpeg"), "jpeg", (64, 64), field="image")
    error = np.abs(again.astype(int) - image)
    assert 0 < error.max() < 16
    assert error.mean() < 2


def test_raw_is_the_pixels() -> None:
    """Raw bytes are rows, pixels, then red, green and blue."""
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert encode_image(image, "raw") == bytes(range(12))


@pytest.mark.parametrize("format_", FILES)
def test_files_are_what_they_are_called(format_: ImageFormat) -> None:
    """Other programs recognise the format."""
    with Image.open(io.BytesIO(encode_image(smooth(), format_))) as picture:
        assert (picture.format, picture.size, picture.mode) == (format_.upper(), (64, 64), "RGB")


@pytest.mark.parametrize(
    ("format_", "size"),
    [
        *((f, size) for f in FORMATS for size in ((12, 8), (13, 7), (1, 1))),
        *((f, (7, 12)) for f in FILES),
    ],
)
def test_another_size_than_declared_is_refused(format_: ImageFormat, size: tuple[int, int]) -> None:
    """Height and width must be the declared ones; swapped ones are found out in files."""
    data = encode_image(noisy(), format_)
    with pytest.raises(ImageCodecError) as caught:
        decode_image(data, format_, size, field="start.image")
    assert caught.value.field == "start.image.data"


@pytest.mark.parametrize("size", [(64, 64), (4096, 4096)])
def test_the_header_is_checked_before_decoding(size: tuple[int, int]) -> None:
    """A file that claims 9000x9000 pixels is refused by its header, without 243 MB of memory."""
    with pytest.raises(ImageCodecError, match="the file says 9000x9000"):
        decode_image(claiming(9000, 9000), "png", size, field="image")


def test_a_bomb_is_refused() -> None:
    """A file that claims 30000x30000 pixels is refused."""
    with pytest.raises(ImageCodecError) as caught:
        decode_image(claiming(30_000, 30_000), "png", (64, 64), field="image")
    assert caught.value.field == "image.data"


def test_a_header_that_tells_the_size_and_pixels_that_end_early() -> None:
    """A file with the right size in its header and too few pixels is refused."""
    with pytest.raises(ImageCodecError, match="not a readable png"):
        decode_image(claiming(64, 64), "png", (64, 64), field="image")


@pytest.mark.parametrize("declared", FILES)
@pytest.mark.parametrize("actual", ["PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_only_the_declared_format_is_tried(declared: ImageFormat, actual: str) -> None:
    """A file of any other format, accepted elsewhere or not, reaches no decoder."""
    out = io.BytesIO()
    Image.fromarray(smooth()).save(out, actual)
    if actual == declared.upper():
        decode_image(out.getvalue(), declared, (64, 64), field="image")
        return
    with pytest.raises(ImageCodecError, match=f"not a readable {declared} image"):
        decode_image(out.getvalue(), declared, (64, 64), field="image")


@pytest.mark.parametrize("format_", FILES)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.9])
def test_damaged_bytes_are_refused(format_: ImageFormat, share: float) -> None:
    """A file cut anywhere before its pixels end is refused."""
    data = encode_image(noisy(48, 48), format_)
    with pytest.raises(ImageCodecError):
        decode_image(data[: int(share * len(data))], format_, (48, 48), field="image")


@pytest.mark.parametrize("format_", FILES)
@QUICK
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1)
)
def test_nothing_else_is_raised(format_: ImageFormat, edits: list[tuple[float, int]]) -> None:
    """Whatever bytes change, it is a picture of the declared size or an ImageCodecError."""
    data = bytearray(encode_image(noisy(), format_))
    for at, byte in edits:
        data[int(at * len(data))] = byte
    try:
        shape = decode_image(bytes(data), format_, (12, 7), field="image").shape
    except ImageCodecError:
        return
    assert shape == (12, 7, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_other_pixel_kinds_become_rgb(mode: str) -> None:
    """A grey, transparent or indexed PNG decodes to three channels of 8 bits."""
    out = io.BytesIO()
    source = Image.fromarray(smooth())
    (source.convert("I").convert(mode) if mode == "I;16" else source.convert(mode)).save(out, "PNG")
    again = decode_image(out.getvalue(), "png", (64, 64), field="image")
    assert (again.shape, again.dtype) == ((64, 64, 3), np.uint8)


def test_text_chunks_survive() -> None:
    """What a PNG says about its making is read back, whatever the script."""
    text = {"prompt": "a red apple, noto style", "note": "яблоко 🍎", "long": "x" * 5000}
    with Image.open(io.BytesIO(encode_image(noisy(), "png", text))) as picture:
        assert isinstance(picture, Image.Image)
        assert {key: str(value) for key, value in picture.info.items()} == text


def test_without_text_there_is_none() -> None:
    """A picture says nothing that it was not told to say."""
    with Image.open(io.BytesIO(encode_image(noisy(), "png"))) as picture:
        assert not picture.info


def test_all_levels_survive_the_network_range() -> None:
    """Every one of the 256 levels comes back exactly, in every channel."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([levels, levels[::-1], levels.T], axis=-1)
    np.testing.assert_array_equal(from_network(to_network(image)), image)


def test_network_values_by_hand() -> None:
    """Black is -1, white is 1, channels come first."""
    image = np.array([[[0, 255, 51]]], np.uint8)
    values = to_network(image)
    assert (values.shape, values.dtype) == ((1, 3, 1, 1), np.float32)
    np.testing.assert_allclose(values.ravel(), [-1, 1, -0.6], atol=1e-7)


@pytest.mark.parametrize(
    ("value", "level"),
    [(-7.0, 0), (-1.0, 0), (0.0, 128), (1.0, 255), (9.0, 255), (-1 + 1.4 / 127.5, 1)],
)
def test_values_are_clipped_and_rounded(value: float, level: int) -> None:
    """Beyond [-1, 1] the ends are taken, between two levels the nearer one."""
    assert (from_network(np.full((1, 3, 2, 2), value, np.float32)) == level).all()


def test_the_first_picture_of_a_batch_is_taken() -> None:
    """Of several pictures the first is returned, height and width in place."""
    batch = np.concatenate([to_network(noisy()), np.zeros((1, 3, 12, 7), np.float32)])
    np.testing.assert_array_equal(from_network(batch), noisy())


def test_a_large_picture_is_rounded_as_the_formula_says() -> None:
    """Rows in groups, channel by channel, give what the whole array would: nearest, clipped."""
    x0 = np.random.default_rng(0).uniform(-1.2, 1.2, (1, 3, 700, 512)).astype(np.float32)
    levels = np.rint((x0[0] + np.float32(1)) * np.float32(127.5))
    expected = np.clip(levels, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(from_network(x0), expected)


@pytest.mark.parametrize("format_", ["png", "webp"])
def test_fewest_bytes_keep_every_pixel(format_: ImageFormat) -> None:
    """A gradient with a repeated pattern: the same pixels, and no more bytes than in a hurry."""
    image = np.tile(smooth(32), (4, 4, 1))
    quick, small = (encode_image(image, format_, fewest_bytes=fewest) for fewest in (False, True))
    assert len(small) <= len(quick)
    found = decode_image(small, format_, image.shape[:2], field="image")
    np.testing.assert_array_equal(found, image)
