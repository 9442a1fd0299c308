"""Placements that are chosen for each request: the picture is that of every other placement.

One server in this process. What is asserted depends on no duration: wishes decide, or records that
the test writes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import InvalidRequest, TransportError
from cascade.request import GenerateRequest
from runtime_client.cli.plan_table import render_plan
from runtime_client.client import Client
from runtime_client.planning.learned import STALE_S
from runtime_client.wish import Wish
from tests.congruence.children import LocalAnswers
from tests.support.serving import RunningServer, running

REQUEST = GenerateRequest(prompt="a red apple, noto style", seed=3)
NAMES = ("text_encoder", "base", "sr16", "sr32")
DEAD = "127.0.0.1:1"


@pytest.fixture(scope="module")
def host(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of every component."""
    with running(bundle) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is learned stays within a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edge-cascade" / "placement"


def chosen(plan: Any) -> list[str]:
    """What runs here by the plan of a result."""
    return next(run["here"] for run in plan["placements"] if run["chosen"])


def same_pictures(images: Any, answers: LocalAnswers) -> None:
    """Every stage's picture is the one that is made here alone."""
    expected = answers.images(REQUEST)
    for name, image in images.items():
        np.testing.assert_array_equal(image, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("choice", "wish", "here"),
    [
        ({"cut": "auto"}, Wish(least="bytes"), list(NAMES)),
        ({"cut": "auto"}, Wish(least="energy"), []),
        ({"placement": "auto"}, Wish(least="energy", words_stay_here=True), ["text_encoder"]),
        ({"placement": "auto"}, Wish(within_s=3600), list(NAMES)),
    ],
    ids=["bytes", "energy", "words", "within"],
)
def test_a_wish_moves_work_and_no_pixel(
    bundle: Bundle, answers: LocalAnswers, host: RunningServer,
    choice: dict[str, Any], wish: Wish, here: list[str],
) -> None:  # fmt: skip
    """Three requests of one client: placed as wished, each with the same pictures."""
    with Client(bundle, server=host.address, threads=1, wish=wish, **choice) as client:
        for _ in range(3):
            result = client.run(REQUEST)
            same_pictures(result.images, answers)
            assert chosen(result.plan) == here
            ran_here = [name for name, side in result.sides.items() if side == "here"]
            assert ran_here == here
    assert result.plan is not None
    assert json.loads(json.dumps(result.plan))["server"] == host.address
    table = render_plan(result.plan)
    assert sum(line.startswith("* ") for line in table.splitlines()) == 1


def test_least_time_makes_the_same_pictures(
    bundle: Bundle, answers: LocalAnswers, host: RunningServer
) -> None:
    """Whatever is taken, and while components are opened ahead."""
    with Client(bundle, server=host.address, threads=1, placement="auto") as client:
        for _ in range(3):
            same_pictures(client.run(REQUEST).images, answers)


def test_what_is_learned_is_kept_for_the_next_client(
    bundle: Bundle, host: RunningServer, cache: Path
) -> None:
    """Two files: of this machine, and of the way to that server; a damaged one begins anew."""
    options: dict[str, Any] = {"server": host.address, "threads": 1, "cut": "auto"}
    with Client(bundle, wish=Wish(least="energy"), **options) as client:
        client.run(REQUEST)
    kept = {path.name: json.loads(path.read_text()) for path in cache.iterdir()}
    names = {name for record in kept.values() for name in record["numbers"]}
    assert {"rtt", "up", "down", *(f"there.{name}" for name in NAMES)} <= names
    with Client(bundle, wish=Wish(least="bytes"), works_ahead=False, **options) as client:
        plan = client.plan(REQUEST).as_object()
        assert [spec["there_from"] for spec in plan["components"]] == ["measured"] * 4
        for path in cache.iterdir():
            path.write_text("{")
        client.run(REQUEST)
    with Client(bundle, works_ahead=False, **options) as client:
        plan = client.plan(REQUEST).as_object()
    assert [spec["here_from"] for spec in plan["components"]] == ["measured"] * 4


def test_a_device_is_made_ready_while_the_server_draws(bundle: Bundle, host: RunningServer) -> None:
    """What was never timed here is opened and timed; the next plan counts nothing for loading."""
    wish = Wish(least="energy")
    with Client(bundle, server=host.address, threads=1, cut="auto", wish=wish) as client:
        before = client.plan(REQUEST)
        assert all(spec.load_s > 0 for spec in before.components)
        client.run(REQUEST)
        client.wait_ahead()
        after = client.plan(REQUEST)
    assert set(after.sources.here.values()) == {"measured"}
    assert [spec.load_s for spec in after.components] == [0.0] * 4


def test_a_device_that_was_slow_long_ago_is_timed_again(
    bundle: Bundle, host: RunningServer, cache: Path
) -> None:
    """Else a record of a busy hour keeps all work away, and with it whatever would correct it."""
    options: dict[str, Any] = {"server": host.address, "threads": 1, "cut": "auto"}
    with Client(bundle, wish=Wish(least="bytes"), **options) as client:
        client.run(REQUEST)
    for path in cache.iterdir():
        record = json.loads(path.read_text())
        for name, number in record["numbers"].items():
            if name.startswith("here."):
                number.update(recent=[1000.0, 1000.0, 1000.0], at_s=number["at_s"] - 2 * STALE_S)
        path.write_text(json.dumps(record))
    with Client(bundle, **options) as client:
        assert chosen(client.plan(REQUEST).as_object()) == []
        client.run(REQUEST)
        client.wait_ahead()
        facts = client.plan(REQUEST).components
    assert all(spec.here_s is not None and spec.here_s < 1000 for spec in facts)


def test_without_a_server_everything_runs_here(bundle: Bundle, answers: LocalAnswers) -> None:
    """There is nothing to choose, and no process is started."""
    with Client(bundle, threads=1, cut="auto") as client:
        result = client.run(REQUEST)
        with pytest.raises(InvalidRequest, match="name a server"):
            client.plan(REQUEST)
    same_pictures(result.images, answers)
    assert (result.cut, result.plan, set(result.sides.values())) == (4, None, {"here"})


def test_a_server_that_is_gone_fails_or_falls_back(bundle: Bundle, answers: LocalAnswers) -> None:
    """As at a fixed cut."""
    options: dict[str, Any] = {"server": DEAD, "threads": 1, "cut": "auto", "wait_s": 0.0}
    with Client(bundle, **options) as client, pytest.raises(TransportError):
        client.run(REQUEST)
    with Client(bundle, fallback="local", **options) as client:
        result = client.run(REQUEST)
    same_pictures(result.images, answers)
    assert result.fell_back


def test_work_that_is_left_to_a_server_ends_there(
    bundle: Bundle, answers: LocalAnswers, host: RunningServer
) -> None:
    """Also where every component here would be the fewest bytes."""
    wish = Wish(least="bytes")
    with Client(bundle, server=host.address, threads=1, cut="auto", wish=wish) as client:
        images = client.fetch(client.submit(REQUEST)).images
    same_pictures(images, answers)
    assert "sr32" in images


def test_a_wish_needs_a_choice() -> None:
    """With a fixed cut it would be taken and not obeyed."""
    for options in ({"cut": 2}, {"placement": {"*": "here"}}):
        with pytest.raises(InvalidRequest, match="wish: it chooses where"):
            Client("nowhere", wish=Wish(least="bytes"), **options)
    with pytest.raises(InvalidRequest, match="cut: expected 0 or more, or auto"):
        Client("nowhere", cut="best")
    with pytest.raises(InvalidRequest, match="placement: expected places by name, or auto"):
        Client("nowhere", placement="best")
    with pytest.raises(InvalidRequest, match="picture_format: jpeg loses pixels"):
        Client("nowhere", cut="auto", picture_format="jpeg")
    with pytest.raises(InvalidRequest, match="within: expected more than 0"):
        Wish(within_s=0)
