"""`cascade generate --detach`, `fetch` and `cancel`: what they print, write and return."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.request import GenerateRequest
from tests.support.serving import RunningServer, local_results, running, wait_until

PROMPT = "a red apple, noto style"


def call(*arguments: str) -> int:
    """Run a subcommand in this process; the exit code."""
    return main(arguments)


@pytest.fixture
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server that stays."""
    with running(bundle) as running_server:
        yield running_server


def flags(server: RunningServer, bundle: Bundle) -> list[str]:
    """Where everything is."""
    return ["--server", server.address, "--bundle", str(bundle.folder)]


def test_a_picture_is_left_and_fetched(
    server: RunningServer, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id on a line of its own; later the right picture, with the id as its story."""
    where = flags(server, bundle)
    assert call("generate", PROMPT, "--detach", "--seed", "3", "--threads", "1", *where) == 0
    request_id = capsys.readouterr().out.strip()
    output = tmp_path / "apple.png"
    assert call("fetch", request_id, "-o", str(output), "--json", *where) == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["output"], account["seed"], account["width"]) == (str(output), None, 32)
    expected = local_results(bundle, GenerateRequest(prompt=PROMPT, seed=3))["sr32"].handoff.image
    assert expected is not None
    with Image.open(output) as picture:
        assert picture.info["request_id"] == request_id
        assert "prompt" not in picture.info
        assert np.array_equal(np.asarray(picture), expected)
    assert call("fetch", request_id, "-o", str(output), *where) == 0
    assert "sr32" in capsys.readouterr().out


def test_what_was_left_can_be_cancelled(
    server: RunningServer, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then there is nothing to fetch, and the error says what to do."""
    where = flags(server, bundle)
    steps = ("--steps", "sr16=1000", "sr32=1000")
    assert call("generate", PROMPT, "--detach", "--json", "--threads", "1", *steps, *where) == 0
    request_id = json.loads(capsys.readouterr().out)["request_id"]
    assert call("cancel", request_id, *where) == 0
    assert capsys.readouterr().out == "cancelled\n"
    wait_until(lambda: server.is_at_rest)
    assert call("cancel", request_id, *where) == 0
    assert capsys.readouterr().out == "the server knows nothing of that request\n"
    output = tmp_path / "none.png"
    assert call("fetch", request_id, "-o", str(output), *where) == 3
    assert f"request_id: {request_id} is neither running here nor kept" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", PROMPT], "output"),
        (["generate", PROMPT, "--detach", "-o", "x.png", "--server", "localhost:1"], "output"),
        (["generate", PROMPT, "--detach"], "server"),
        (["fetch", "r-1", "-o", "x.png"], "server"),
        (["cancel", "r-1"], "server"),
        (["generate", PROMPT, "-o", "x.png", "--linger", "-1"], "linger_s"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Exit code 2 and one line that names what is wrong."""
    assert call(*arguments, "--bundle", str(bundle.folder)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1
