"""A negative prompt: what the picture is guided away from, the same at every cut and placement."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.unconditional import with_other_half
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.support.wordless_bundle import write_wordless_bundle

# The base stage of the bundle in miniature is guided by weight 2, the others by 1.
REQUEST = GenerateRequest(prompt="a red apple", negative="a green cat , cat", seed=4)


def test_every_cut_makes_the_same_pixels(bundle: Bundle, unix_server: str) -> None:
    """Encoded on either side, also where a later stage is guided; and not what no words make."""
    guided = replace(REQUEST, options={"sr16": DiffusionOptions(guidance=3.0)})
    for request in (REQUEST, guided):
        found = []
        for cut in range(5):
            where = {} if cut == 4 else {"server": unix_server}
            with Client(bundle, cut=cut, threads=1, **where) as client:
                found.append(client.run(request).image)
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other)
        with Client(bundle, cut=4, threads=1) as client:
            assert (client.run(replace(request, negative=None)).image != found[0]).any()
            assert (client.run(replace(request, negative="an apple")).image != found[0]).any()


def test_any_placement_makes_the_same_pixels(bundle: Bundle, unix_server: str) -> None:
    """The encoder on a server and the guided stage here: the embeddings come down."""
    with Client(bundle, cut=4, threads=1) as client:
        expected = client.run(REQUEST).image
    placed = {"text_encoder": "there", "*": "here"}
    with Client(bundle, server=unix_server, placement=placed, threads=1) as client:
        np.testing.assert_array_equal(client.run(REQUEST).image, expected)


def test_away_from_itself_is_no_guidance(bundle: Bundle) -> None:
    """Both halves are the same, so that any weight is weight 1, within rounding."""
    away = replace(REQUEST, negative=REQUEST.prompt, last_stage="base")
    plain = replace(
        REQUEST, negative=None, last_stage="base", options={"base": DiffusionOptions(guidance=1.0)}
    )
    with Client(bundle, cut=4, threads=1) as client:
        one, other = client.run(away).image, client.run(plain).image
    assert np.abs(one.astype(int) - other).max() <= 1


def test_the_shorter_text_is_filled_up() -> None:
    """With zeros that its mask leaves out, whichever it is."""
    short = {"context": np.ones((1, 1, 2), np.float32), "context_mask": np.ones((1, 1), np.float32)}
    long = {"context": np.ones((1, 3, 2), np.float32), "context_mask": np.ones((1, 3), np.float32)}
    for text, other in ((short, long), (long, short)):
        both = with_other_half({**text, "aug_level": np.zeros(1, np.float32)}, other)
        assert both["context"].shape == (2, 3, 2)
        assert sorted(both["context_mask"].sum(1)) == [1, 3]
        assert both["context"].sum() == 8
        assert both["aug_level"].shape == (2,)


def test_what_nothing_would_obey_is_refused(
    bundle: Bundle, unix_server: str, tmp_path: Path
) -> None:
    """Of each stage with its reason, and before any work; also what is no prompt."""
    weightless = replace(REQUEST, options={"base": DiffusionOptions(guidance=1.0)})
    wordless = GenerateRequest(
        picture=np.zeros((8, 8, 3), np.uint8), own_picture=True, first_stage="sr16",
        negative="a cat", options={"sr16": DiffusionOptions(guidance=2.0)},
    )  # fmt: skip
    with Client(bundle, server=unix_server, cut=0) as client:
        with pytest.raises(InvalidRequest, match="base has guidance weight 1, give it another"):
            client.run(weightless)
        with pytest.raises(InvalidRequest, match="negative: it goes with a prompt"):
            client.run(wordless)
    with (
        Client(write_wordless_bundle(tmp_path / "w"), cut=2) as client,
        pytest.raises(InvalidRequest, match="base takes no words; sr takes no words"),
    ):
        client.run(GenerateRequest(negative="a cat"))
    with pytest.raises(InvalidRequest, match="negative: it is empty"):
        GenerateRequest(prompt="a cat", negative=" ")


def test_the_command_line_says_it_and_makes_it_again(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--negative, and --from of such a picture."""
    one, again = tmp_path / "one.png", tmp_path / "again.png"
    base = ["generate", "--bundle", str(bundle.folder), "--cut", "4", "-q", "--threads", "1"]
    assert main([*base, "a red apple", "--negative", "cat", "--seed", "4", "-o", str(one)]) == 0
    with Client(bundle, cut=4, threads=1) as client:
        expected = client.run(replace(REQUEST, negative="cat")).image
    np.testing.assert_array_equal(np.asarray(Image.open(one)), expected)
    assert main([*base, "--from", str(one), "-o", str(again)]) == 0
    assert again.read_bytes() == one.read_bytes()
    guided = [*base, "a cat", "--negative", "cat", "--guidance", "base=1", "-o", str(one)]
    assert main(guided) == 2
    assert "negative: no stage can be guided away from it" in capsys.readouterr().err
