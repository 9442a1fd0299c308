"""A caller's own picture, of any size, with words or without: the same pixels at every cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.client import Client
from tests.congruence.children import LocalAnswers
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle


def drawn(width: int, height: int) -> ImageU8:
    """A picture with an edge, a slope and some noise."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width).integers(0, 40, (height, width))
    planes = (x * 200 // max(1, width), y * 200 // max(1, height), (x > y) * 200 + noise)
    return np.stack(planes, -1).astype(np.uint8)


BESIDE = GenerateRequest(prompt="a red cat", seed=3)
REQUESTS = {
    "tiles": replace(BESIDE, picture=drawn(50, 30), own_picture=True, first_stage="sr32"),
    "wordless": GenerateRequest(picture=drawn(9, 13), own_picture=True, first_stage="sr16"),
    "one": GenerateRequest(picture=drawn(1, 1), own_picture=True, seed=2),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_cut_makes_the_same_pixels(bundle: Bundle, unix_server: str, name: str) -> None:
    """Wide, high and of one pixel; the words are encoded on either side."""
    request, found = REQUESTS[name], []
    for cut in (0, 1, 3, 4):
        where = {} if cut == 4 else {"server": unix_server}
        with Client(bundle, cut=cut, threads=1, **where) as client:
            found.append(client.run(request))
    factor = 4 if request.first_stage == "sr16" else 2
    assert request.picture is not None
    height, width = request.picture.shape[:2]
    assert found[0].image.shape == (height * factor, width * factor, 3)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].image, other.image)


def test_a_kept_picture_is_enlarged_again(bundle: Bundle, answers: LocalAnswers) -> None:
    """The rest of a cascade from its own 8x8: the same pixels, and others for another seed."""
    whole = answers.images(BESIDE)
    again = replace(BESIDE, picture=whole["base"], own_picture=True, first_stage="sr16")
    with Client(bundle, cut=4, threads=1) as client:
        np.testing.assert_array_equal(client.run(again).image, whole["sr32"])
        assert (client.run(replace(again, seed=4)).image != whole["sr32"]).any()
        assert (client.run(replace(again, prompt="an apple")).image != whole["sr32"]).any()


def test_tiles_are_one_run_to_the_bit(bundle: Bundle, tmp_path: Path) -> None:
    """The same network, in tiles of 32x32 and, where 128x128 were declared, in one run."""
    large = write_tiny_bundle(tmp_path / "large", sizes=(8, 64, 128))
    found = []
    for one in (bundle, large):
        with Client(one, cut=4, threads=1) as client:
            found.append(client.upscale(drawn(48, 32), prompt="a cat", seed=5).image)
    assert found[0].shape == (64, 96, 3)
    np.testing.assert_array_equal(found[0], found[1])


def test_what_is_too_large_is_refused(bundle: Bundle, unix_server: str, tmp_path: Path) -> None:
    """Sides and pixels before any work; on a server also what never fits into its memory."""
    wide = np.zeros((1, 20000, 3), np.uint8)
    with Client(bundle, cut=4) as client:
        with pytest.raises(InvalidRequest, match="would make 40000x2 of it"):
            client.upscale(wide)
        with pytest.raises(InvalidRequest, match="would make 16384x16384 of it"):
            client.upscale(np.zeros((8192, 8192, 3), np.uint8))
        with pytest.raises(InvalidRequest, match="no component 'sr99'"):
            client.upscale(wide, first_stage="sr99")
        with pytest.raises(InvalidRequest, match="base starts from embeddings"):
            client.upscale(wide, first_stage="base")
    with (
        running(bundle, listen=f"unix:{tmp_path}/s", cut=0, max_in_flight_bytes=100_000) as small,
        Client(bundle, server=small.address, cut=0) as client,
        pytest.raises(InvalidRequest, match=r"100000 are allowed .*max_in_flight_bytes"),
    ):
        client.upscale(drawn(50, 30))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture in many kinds of files."""
    folder, rgb = tmp_path_factory.mktemp("files"), drawn(6, 4)
    alpha = np.full((4, 6, 1), 255, np.uint8)
    alpha[:, :3] = 0
    turned = Image.fromarray(np.rot90(rgb).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(folder / "rgb.png")
    turned.save(folder / "exif.png", exif=exif)
    Image.fromarray(np.dstack([rgb, alpha])).save(folder / "alpha.png")
    Image.fromarray(np.dstack([rgb, alpha | 255])).save(folder / "opaque.png")
    Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(rgb[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(rgb).save(folder / "jpeg.jpg", quality=95, subsampling=0)
    return folder


def upscaled(bundle: Bundle, source: Path, *flags: str) -> np.ndarray:
    """What `cascade upscale` makes of a file."""
    out = source.with_name(f"out-{source.stem}.png")
    base = ["upscale", str(source), "-o", str(out), "--bundle", str(bundle.folder), "-q"]
    assert main([*base, "--threads", "1", *flags]) == 0
    with Image.open(out) as picture:
        return np.asarray(picture)


def test_files_are_read_as_they_are_seen(bundle: Bundle, files: Path) -> None:
    """Turned by Exif, transparent, 16 bits deep, grey, and JPEG within its loss."""
    expected = upscaled(bundle, files / "rgb.png")
    np.testing.assert_array_equal(upscaled(bundle, files / "exif.png"), expected)
    np.testing.assert_array_equal(upscaled(bundle, files / "opaque.png"), expected)
    alpha = upscaled(bundle, files / "alpha.png")
    np.testing.assert_array_equal(alpha[:, :, :3], expected)
    assert (alpha[:, :4, 3] == 0).all()
    assert (alpha[:, -4:, 3] == 255).all()
    grey = upscaled(bundle, files / "grey.png")
    np.testing.assert_array_equal(upscaled(bundle, files / "deep.png"), grey)
    near = np.abs(upscaled(bundle, files / "jpeg.jpg").astype(int) - expected)
    assert np.median(near) < 30


def test_the_command_line_asks_as_python_does(
    bundle: Bundle, unix_server: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words, seeds, options and stages; on a server; and what cannot be kept is refused."""
    flags = ["--first-stage", "sr16", "--prompt", "a red cat", "--seed", "3", "--image-index", "2"]
    request = replace(
        BESIDE, picture=drawn(6, 4), own_picture=True, first_stage="sr16", image_index=2
    )
    with Client(bundle, cut=4, threads=1) as client:
        expected = client.run(request)
    source = files / "rgb.png"
    np.testing.assert_array_equal(upscaled(bundle, source, *flags), expected.image)
    there = ["--server", unix_server, "--cut", "0"]
    np.testing.assert_array_equal(upscaled(bundle, source, *flags, *there), expected.image)
    assert (upscaled(bundle, source, *flags, *there, "--format", "jpeg") != expected.image).any()
    part = upscaled(bundle, source, *flags, "--last-stage", "sr16")
    np.testing.assert_array_equal(part, expected.images["sr16"])
    fewer = upscaled(bundle, source, *flags, "--set", "sr16.steps=1")
    assert (fewer != expected.image).any()
    base = ["upscale", "-o", str(files / "out.jpg"), "--bundle", str(bundle.folder)]
    assert main([*base, str(files / "alpha.png")]) == 2
    assert "a JPEG holds no transparency" in capsys.readouterr().err
    assert main([*base, str(files / "none.png")]) == 2
    assert "none.png: No such file" in capsys.readouterr().err
    assert main(["generate", "--from", str(files / "out-rgb.png"), *base[1:]]) == 2
    assert "ask with `cascade upscale`" in capsys.readouterr().err
