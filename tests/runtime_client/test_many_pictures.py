"""Many pictures in one run: each its own file and its own end."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.errors import CascadeError, InvalidRequest
from cascade.request import GenerateRequest
from runtime_client.client import Client
from runtime_client.many_requests import in_parallel
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

PROMPTS = "# what to draw\na red apple\n\na green cat\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("many") / "tiny")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of it that lets two requests of a caller in at once."""
    place = tmp_path_factory.mktemp("socket") / "s"
    listen = f"unix:{place}"
    with running(bundle, listen=listen, cut=0, max_in_flight_per_identity=2) as started:
        yield started.address


def test_every_prompt_and_index_is_a_file(bundle: Bundle, server: str, tmp_path: Path) -> None:
    """Numbered in their order, with the pixels of a request alone, here and on a server."""
    listed = tmp_path / "prompts.txt"
    listed.write_text(PROMPTS)
    words = ["generate", "--bundle", str(bundle.folder), "-q", "--threads", "1", "--seed", "4"]
    words += ["--prompts", str(listed), "--count", "2", "--image-index", "5"]
    with Client(bundle, cut=4, threads=1) as client:
        expected = [
            client.run(GenerateRequest(prompt=prompt, seed=4, image_index=index)).image
            for prompt in ("a red apple", "a green cat")
            for index in (5, 6)
        ]
    for name, where in (("here", ["--cut", "4"]), ("there", ["--cut", "1", "--server", server])):
        assert main([*words, *where, "-o", str(tmp_path / f"{name}.png")]) == 0
        assert len(list(tmp_path.glob(f"{name}-*.png"))) == 4
        for at, image in enumerate(expected):
            found = np.asarray(Image.open(tmp_path / f"{name}-{at:03}.png"))
            np.testing.assert_array_equal(found, image)


def test_one_failure_does_not_lose_the_others(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is the failure's, and the object says which picture failed and why."""
    listed = tmp_path / "prompts.txt"
    listed.write_text("a cat\n" + "cat " * 20 + "\nan apple\n")
    words = ["generate", "--bundle", str(bundle.folder), "--json", "-q", "--cut", "4"]
    assert main([*words, "--prompts", str(listed), "-o", str(tmp_path / "p.png")]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["made"], found["failed"]) == (2, 1)
    assert [Path(one["output"]).name for one in found["pictures"]] == [
        "p-000.png", "p-001.png", "p-002.png",
    ]  # fmt: skip
    assert found["pictures"][1]["error"]["field"] == "prompt"
    assert found["pictures"][2]["width"] == 32
    assert said.err.startswith("2/3 ")
    assert "p-001.png: error: prompt" in said.err
    assert sorted(path.name for path in tmp_path.glob("p-*")) == ["p-000.png", "p-002.png"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--count", "0"), "count: expected 1 to 10000, got 0"),
        (("--count", "2", "-o", "-"), "output: many pictures need a file's name"),
        (("--count", "2", "--preview", "p"), "preview: it goes with one picture alone"),
        (("--prompts", "none.txt"), "prompts: there is a PROMPT too"),
    ],
)
def test_what_does_not_go_together_is_refused(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    words: str,
) -> None:
    """In one line, before any work."""
    base = ["generate", "a cat", "-o", str(tmp_path / "p.png"), "--bundle", str(bundle.folder)]
    assert main([*base, *flags]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "No such file"), (b"\xff\n", "is not UTF-8"), (b"# no\n", "has no prompt")],
)
def test_a_list_without_prompts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None, words: str
) -> None:
    """Missing, of other bytes, or empty."""
    listed = tmp_path / "prompts.txt"
    if data is not None:
        listed.write_bytes(data)
    assert main(["generate", "--prompts", str(listed), "-o", str(tmp_path / "p.png")]) == 2
    assert words in capsys.readouterr().err


def test_python_gets_each_end_as_it_comes(bundle: Bundle) -> None:
    """A picture or an error of ours for each; any other error ends them all."""
    requests = [
        GenerateRequest(prompt="a cat"),
        GenerateRequest(prompt="a cat", first_stage="sr99"),
        GenerateRequest(prompt="an apple"),
    ]
    with Client(bundle, cut=4, threads=1) as client:
        ends = dict(client.run_many(requests, parallel=2))
    assert sorted(ends) == [0, 1, 2]
    assert isinstance(ends[1], InvalidRequest)
    assert not isinstance(ends[0], CascadeError)
    assert ends[0].image.shape == (32, 32, 3)

    def broken(number: int) -> int:
        return 1 // number

    with pytest.raises(ZeroDivisionError):
        list(in_parallel(broken, [0], 1))
