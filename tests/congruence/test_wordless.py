"""Cascades that begin with noise alone or with a picture: the same pixels wherever they are cut."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.support.serving import running
from tests.support.wordless_bundle import HIGH, LOW, write_wordless_bundle

PICTURE = np.arange(LOW.size_bytes, dtype=np.uint8).reshape(LOW.shape)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two stages, no words."""
    return write_wordless_bundle(tmp_path_factory.mktemp("wordless") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of both stages."""
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as started:
        yield started.address


@pytest.mark.parametrize("request_", [
    GenerateRequest(seed=5),
    GenerateRequest(seed=5, options={"base": DiffusionOptions(steps=2)}),
    GenerateRequest(seed=6, picture=PICTURE, first_stage="sr"),
], ids=["noise", "fewer-steps", "picture"])  # fmt: skip
def test_every_cut_makes_the_same_pixels(
    bundle: Bundle, server: str, request_: GenerateRequest
) -> None:
    """From noise alone, and from a picture that is wider than high."""
    found = []
    for cut in range(3):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            result = client.run(request_)
        assert result.image.shape == HIGH.shape
        found.append(result.image)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0].std() > 1


def test_a_start_that_does_not_fit_is_refused(bundle: Bundle, server: str) -> None:
    """Words for a cascade without them, another size, nothing for a stage that needs a picture."""
    wrong = {
        "first_stage": GenerateRequest(prompt="a cat"),
        "options.base.guidance": GenerateRequest(options={"base": DiffusionOptions(guidance=2.0)}),
    }
    with Client(bundle, server=server, cut=0) as client:
        for field, request in wrong.items():
            with pytest.raises(InvalidRequest) as caught:
                client.run(request)
            assert caught.value.field == field
        for request in (
            GenerateRequest(first_stage="sr"),
            GenerateRequest(first_stage="sr", picture=PICTURE[:, :3]),
        ):
            with pytest.raises(InvalidRequest, match="sr starts from a picture of 6x4"):
                client.run(request)


def test_the_command_line_begins_with_a_picture(
    bundle: Bundle, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--picture and --first-stage, here and on a server, are what the request in Python is."""
    start, out = tmp_path / "start.png", tmp_path / "out.png"
    Image.fromarray(PICTURE).save(start)
    with Client(bundle, cut=2, threads=1) as client:
        expected = client.run(GenerateRequest(seed=6, picture=PICTURE, first_stage="sr")).image
    base = ["generate", "--bundle", str(bundle.folder), "-o", str(out), "-q", "--seed", "6"]
    given = ["--picture", str(start), "--first-stage", "sr"]
    for where in (["--cut", "2"], ["--cut", "0", "--server", server]):
        assert main([*base, *given, *where]) == 0
        np.testing.assert_array_equal(np.asarray(Image.open(out)), expected)
    # It does not hold the picture that it began with.
    source = ["generate", "--bundle", str(bundle.folder), "-o", str(out), "--from", str(out)]
    assert main(source) == 2
    assert "ask with --picture and its seed, 6" in capsys.readouterr().err
    assert main([*base, *given[2:], "--cut", "2"]) == 2
    assert "first_stage: sr starts from a picture of 6x4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("RGBA", "expected RGB or grey without transparency, got RGBA"),
        ("text", "not a readable PNG"),
        ("none", "No such file"),
        ("folder", "Is a directory"),
        ("BIG", "first_stage: sr starts from a picture of 6x4, the request gives image of 60x40"),
    ],
)
def test_pictures_that_nothing_begins_with(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, words: str
) -> None:
    """Refused before any work, in one line."""
    path = tmp_path / "start.png"
    if mode == "text":
        path.write_text("a picture")
    elif mode == "folder":
        path.mkdir()
    elif mode == "BIG":
        Image.new("L", (60, 40)).save(path)
    elif mode != "none":
        Image.new(mode, (6, 4)).save(path)
    base = ["generate", "--bundle", str(bundle.folder), "-o", str(tmp_path / "o.png")]
    assert main([*base, "--picture", str(path), "--first-stage", "sr", "--cut", "2"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_picture_of_noise_alone_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    """There is no prompt to say, and none is asked for."""
    one, again = tmp_path / "one.png", tmp_path / "again.png"
    base = ["generate", "--bundle", str(bundle.folder), "--cut", "2", "-q"]
    assert main([*base, "-o", str(one), "--seed", "4"]) == 0
    assert main([*base, "-o", str(again), "--from", str(one)]) == 0
    assert again.read_bytes() == one.read_bytes()
