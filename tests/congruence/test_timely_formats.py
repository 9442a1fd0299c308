"""A time within which a picture is wanted: its format is chosen, and what was lost is said.

One server in this process. Nothing depends on a duration: the test writes what the link, the server
and this machine are taken to be.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import decode_image, encode_image
from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from cascade.events import Event, Preview, StageFinished
from cascade.request import GenerateRequest
from runtime_client.async_client import AsyncClient
from runtime_client.cli.picture_format import read_metadata
from runtime_client.client import Client
from runtime_client.planning.learned import Learned, write_learned
from runtime_client.planning.network import LOCAL
from runtime_client.wish import Wish
from tests.congruence.children import LocalAnswers
from tests.support.serving import RunningServer, running

REQUEST = GenerateRequest(prompt="a red apple, noto style", seed=3, previews=1)
NAMES = ("text_encoder", "base", "sr16", "sr32")
LINK = {
    "rtt": 0.001, "up": 1e6, "down": 2000.0,
    "down.base": 1.0, "down.sr16": 1.0, "down.sr32": 3.0, "down.sr32.avif": 3.0,
    "down.sr32.webp90": 0.01, "down.sr32.jpeg": 0.01,
    "pack": 1e-9, "pack.avif": 1e-9, "pack.webp90": 1e-9, "pack.jpeg": 1e-9,
    **{f"there.{name}": 1e-4 for name in NAMES},
}  # fmt: skip
"""Without loss, and as AVIF, the picture of 9 kB takes more than four seconds."""
LOOSE, TIGHT = Wish(within_s=60.0), Wish(within_s=2.0)


@pytest.fixture(scope="module")
def host(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of every component."""
    with running(bundle) as server:
        yield server


@pytest.fixture
def options(
    bundle: Bundle, host: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Any]:
    """Of a client to which that link is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    learn(f"{bundle.bundle_id} at {host.address} over {LOCAL}", LINK, tmp_path)
    return {"server": host.address, "threads": 1, "works_ahead": False}


def learn(owner: str, numbers: Mapping[str, float], cache: Path) -> None:
    """Write what is taken to be known."""
    record, now_s = Learned(owner=owner), time.time()
    for name, value in numbers.items():
        record.note(name, value, now_s)
    write_learned(cache / "edge-cascade" / "placement", record)


def lossy(right: np.ndarray) -> np.ndarray:
    """The picture as WebP of quality 90 leaves it, `[32, 32, 3]`."""
    return decode_image(encode_image(right, "webp90"), "webp90", (32, 32), field="image")


def test_a_picture_that_is_in_time_keeps_every_pixel(
    bundle: Bundle, answers: LocalAnswers, options: Mapping[str, Any]
) -> None:
    """Its hash is that of no wish, and of every cut."""
    with Client(bundle, cut=0, wish=LOOSE, **options) as client:
        result = client.run(REQUEST)
    np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])
    assert (result.sent_as, result.formats["sr32"], result.cut) == ("", "raw", 0)
    assert result.plan is not None
    assert result.plan["format"] == "lossless"


def test_one_that_would_be_late_loses_pixels_and_says_so(
    bundle: Bundle, answers: LocalAnswers, options: Mapping[str, Any]
) -> None:
    """In the result and in the event; the very bytes of that format, of the same picture."""
    right, events = answers.images(REQUEST)["sr32"], list[Event]()
    with Client(bundle, cut=0, wish=TIGHT, **options) as client:
        result = client.run(REQUEST, on_event=events.append)
    np.testing.assert_array_equal(result.image, lossy(right))
    assert (result.sent_as, result.formats["sr32"]) == ("webp90", "webp90")
    assert result.plan is not None
    assert (result.plan["format"], result.plan["met"]) == ("webp90", True)
    last = [event for event in events if isinstance(event, StageFinished)][-1]
    assert (last.stage, last.format) == ("sr32", "webp90")
    assert {event.format for event in events if isinstance(event, Preview)} == {"jpeg"}


def test_an_event_loop_gets_the_same(
    bundle: Bundle, answers: LocalAnswers, options: Mapping[str, Any]
) -> None:
    """The bridge takes the wish along."""

    async def run() -> Any:
        async with AsyncClient(bundle, cut=0, wish=TIGHT, **options) as client:
            return await client.run(REQUEST)

    result = asyncio.run(run())
    np.testing.assert_array_equal(result.image, lossy(answers.images(REQUEST)["sr32"]))
    assert result.sent_as == "webp90"


@pytest.mark.parametrize(("here_s", "cut", "sent_as"), [(1e-4, 4, ""), (50.0, 0, "webp90")])
def test_placement_and_format_are_chosen_together(
    bundle: Bundle, options: Mapping[str, Any], tmp_path: Path,
    here_s: float, cut: int, sent_as: str,
) -> None:  # fmt: skip
    """A device that is in time keeps the pixels; one that is not leaves the picture to the line."""
    with Client(bundle, cut="auto", **options) as probe:
        owner = f"{bundle.bundle_id} here by {probe.config.engine_options}"
    numbers = {f"{what}.{name}": here_s for what in ("here", "load") for name in NAMES}
    learn(owner, numbers, tmp_path)
    with Client(bundle, cut="auto", wish=TIGHT, **options) as client:
        result = client.run(REQUEST)
    assert (result.cut, result.sent_as) == (cut, sent_as)


def test_the_command_says_it_in_every_place(
    bundle: Bundle, host: RunningServer, options: Mapping[str, Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A warning, the object, the picture's text; previews are marked, and `--from` refuses."""
    del options
    picture, folder = tmp_path / "a.png", tmp_path / "previews"
    words = ["generate", REQUEST.prompt or "", "-o", str(picture), "--bundle", str(bundle.folder)]
    words += ["--server", host.address, "--cut", "0", "--within", "2s", "--threads", "1"]
    assert main([*words, "--json", "--preview", str(folder), "--previews", "1"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["sent_as"], told["formats"]["sr32"]) == ("webp90", "webp90")
    assert set(told["preview_formats"].values()) == {"jpeg"}
    assert "warning: the picture came as webp90, which loses pixels" in err
    assert read_metadata(picture)["sent_as"] == "webp90"
    assert read_metadata(folder / "sr32.png")["sent_as"] == "webp90"
    assert {read_metadata(path)["sent_as"] for path in folder.glob("*-step-*")} == {"jpeg"}
    again = ["generate", "--from", str(picture), "-o", str(tmp_path / "b.png")]
    assert main([*again, "--bundle", str(bundle.folder)]) != 0
    assert "webp90" in capsys.readouterr().err
    many = ["generate", "a cat", "--count", "2", "-o", str(picture), *words[4:], "--json"]
    assert main(many) == 0
    made = json.loads(capsys.readouterr().out)["pictures"]
    assert [one["sent_as"] for one in made] == ["webp90", "webp90"]


def test_what_is_left_to_a_server_keeps_its_pixels(
    bundle: Bundle, answers: LocalAnswers, options: Mapping[str, Any]
) -> None:
    """No caller waits for it; a format that was named is that of the kept picture, and is said."""
    with Client(bundle, cut=0, wish=TIGHT, **options) as client:
        result = client.fetch(client.submit(REQUEST))
    np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])
    assert result.sent_as == ""
    with Client(bundle, cut=0, picture_format="webp90", **options) as client:
        result = client.fetch(client.submit(REQUEST))
    assert result.sent_as == "webp90"


@pytest.mark.parametrize(
    "choice",
    [
        {"server": None},
        {"picture_format": "webp"},
        {"fallback": "local"},
        {"placement": {"*": "there", "base": "other:1"}},
        {"wish": Wish(within_s=1.0, words_stay_here=True)},
    ],
    ids=lambda choice: next(iter(choice)),
)
def test_a_time_that_could_choose_nothing_is_refused(choice: dict[str, Any]) -> None:
    """It would be taken and not obeyed."""
    given: dict[str, Any] = {"server": "one:1", "cut": 2, "wish": TIGHT}
    with pytest.raises(InvalidRequest, match="wish: it chooses where"):
        Client("nowhere", **{**given, **choice})
