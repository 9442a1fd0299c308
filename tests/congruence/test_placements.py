"""Any component on any of several servers: one picture, and a lost server at any hop is no loss.

Two servers in this process that host everything; a placement says who runs what.
"""

import threading
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import InvalidRequest, PlacementError, TransportError
from cascade.events import Accepted, Event, FellBack, Resumed, StageFinished
from cascade.request import GenerateRequest
from cascade.types import Array
from runtime_client.client import Client
from tests.congruence.children import LocalAnswers
from tests.support.breakable_wire import BreakableWire
from tests.support.serving import RunningServer, running
from tests.support.tiny_bundle import write_tiny_bundle

NAMES = ("text_encoder", "base", "sr16", "sr32")
REQUEST = GenerateRequest(prompt="a red apple, noto style", seed=3)
OPEN = threading.Event()
"""While it is not set, no run of a gated server ends."""


class GatedEngine:
    """The true engine, whose runs wait for the test."""

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        self._engine = open_engine(graph, choice)

    def run(self, inputs: Any) -> dict[str, Array]:
        """Run once the gate is open."""
        OPEN.wait()
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """End a run."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


@pytest.fixture(scope="module")
def pair(bundle: Bundle) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Two servers of all components."""
    with running(bundle) as one, running(bundle) as other:
        yield one, other


@pytest.fixture(scope="module")
def gated(bundle: Bundle) -> Iterator[RunningServer]:
    """A server whose runs last as long as a test wants."""
    OPEN.set()
    with running(bundle, GatedEngine) as server:
        yield server
        OPEN.set()


def alternating(
    here: tuple[bool, ...], pair: tuple[RunningServer, RunningServer]
) -> dict[str, str]:
    """Some components here, the others on both servers in turn."""
    placed: dict[str, str] = {}
    for name, is_here in zip(NAMES, here, strict=True):
        elsewhere = sum(place != "here" for place in placed.values())
        placed[name] = "here" if is_here else pair[elsewhere % 2].address
    return placed


def lose(bundle: Bundle, gated: RunningServer, lost: str, *, fallback: str) -> list[Event]:
    """The events of a request whose one remote component loses its server for good."""
    OPEN.clear()
    events: list[Event] = []
    with BreakableWire(gated.address) as wire:
        placed = {lost: wire.address, "*": "here"}
        with Client(bundle, placement=placed, threads=1, linger_s=0, fallback=fallback) as client:
            for event in client.events(REQUEST):
                events.append(event)
                if isinstance(event, Accepted):
                    wire.close()
                    OPEN.set()
    return events


def test_every_placement_makes_the_same_picture(
    bundle: Bundle, answers: LocalAnswers, pair: tuple[RunningServer, RunningServer]
) -> None:
    """All sixteen of what runs here; the rest goes to two servers in turn."""
    expected = answers.images(REQUEST)
    for here in product((True, False), repeat=len(NAMES)):
        placed = alternating(here, pair)
        with Client(bundle, placement=placed, threads=1) as client:
            result = client.run(REQUEST)
        for name, image in result.images.items():
            np.testing.assert_array_equal(image, expected[name], err_msg=f"{placed} {name}")
        ran = [(name, hop.server or hop.side) for hop in result.hops for name in hop.components]
        assert ran == list(placed.items())
        assert sum(hop.bytes_up for hop in result.hops) == result.bytes_up


@pytest.mark.parametrize("named", [False, True])
def test_components_in_a_row_on_one_server_are_one_call(
    bundle: Bundle, pair: tuple[RunningServer, RunningServer], *, named: bool
) -> None:
    """However it is said: by a cut, or by names."""
    placed = {"text_encoder": "here", "base": "here", "*": "there"}
    choice: Mapping[str, Any] = {"placement": placed} if named else {"cut": 2}
    with Client(bundle, server=pair[0].address, threads=1, **choice) as client:
        events = list(client.events(REQUEST))
        assert client.placement.cut == 2
    assert sum(isinstance(event, Accepted) for event in events) == 1


def test_a_context_comes_down_once_for_each_prompt(
    bundle: Bundle, pair: tuple[RunningServer, RunningServer]
) -> None:
    """Trimmed to its tokens; another prompt asks the encoder again."""
    placed = {"text_encoder": pair[0].address, "*": "here"}
    with Client(bundle, placement=placed, threads=1) as client:
        first, second, other = (client.generate(p) for p in ("a cat", "a cat", "a red apple"))
    np.testing.assert_array_equal(first.image, second.image)
    assert first.bytes_down > 0
    assert (second.bytes_up, second.bytes_down) == (0, 0)
    assert other.bytes_down > 0


@pytest.mark.parametrize("lost", NAMES)
def test_a_line_lost_at_any_hop_is_resumed(
    bundle: Bundle, answers: LocalAnswers, gated: RunningServer, lost: str
) -> None:
    """The connection breaks once the hop's server has the work; it goes on there."""
    OPEN.clear()
    with (
        BreakableWire(gated.address) as wire,
        Client(bundle, placement={lost: wire.address, "*": "here"}, threads=1) as client,
    ):
        picture, resumed = None, 0
        for event in client.events(REQUEST):
            resumed += isinstance(event, Resumed)
            if isinstance(event, Accepted):
                wire.cut()
                OPEN.set()
            if isinstance(event, StageFinished):
                picture = event.handoff.image
    assert resumed == 1
    np.testing.assert_array_equal(picture, answers.images(REQUEST)["sr32"])


@pytest.mark.parametrize("lost", NAMES)
def test_a_server_lost_at_any_hop_is_fallen_back_from_or_named(
    bundle: Bundle, answers: LocalAnswers, gated: RunningServer, lost: str
) -> None:
    """What it was to run runs here, or the error says which hop was lost."""
    events = lose(bundle, gated, lost, fallback="local")
    assert [e.stage for e in events if isinstance(e, FellBack)] == [lost]
    last = [e for e in events if isinstance(e, StageFinished)][-1]
    np.testing.assert_array_equal(last.handoff.image, answers.images(REQUEST)["sr32"])
    with pytest.raises(TransportError, match=f"^{lost} on 127.0.0.1:[0-9]+: "):
        lose(bundle, gated, lost, fallback="error")


def test_the_other_hops_stay_where_they_are_placed(
    bundle: Bundle, answers: LocalAnswers, pair: tuple[RunningServer, RunningServer]
) -> None:
    """One server was never there: its component runs here, the next one still elsewhere."""
    placed = {"sr16": "127.0.0.1:1", "sr32": pair[0].address, "*": "here"}
    with Client(bundle, placement=placed, threads=1, fallback="local", wait_s=0) as client:
        result = client.run(REQUEST)
    np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])
    assert result.fell_back
    assert [result.sides[name] for name in NAMES] == ["here", "here", "here", "server"]


def test_a_server_without_its_part_is_refused_before_any_work(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One type of error says component, server and remedy, whether it is the bundle or the part."""
    other = write_tiny_bundle(tmp_path_factory.mktemp("other") / "b", steps=5)
    with running(bundle, components="text_encoder,sr32") as part, running(other) as foreign:
        for address, words in ((part.address, "--components"), (foreign.address, "same bundle")):
            with (
                Client(bundle, placement={"sr16": address, "*": "here"}, threads=1) as client,
                pytest.raises(PlacementError, match=f"sr16 .*{address}.*{words}"),
            ):
                list(client.events(REQUEST))


def test_the_last_hop_can_be_left_to_its_server(
    bundle: Bundle, answers: LocalAnswers, pair: tuple[RunningServer, RunningServer]
) -> None:
    """The hops before it run first; the picture is fetched from the last server."""
    one, other = pair
    placed = {"text_encoder": one.address, "base": "here", "*": other.address}
    with Client(bundle, placement=placed, threads=1) as client:
        result = client.fetch(client.submit(REQUEST))
    np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])
    with (
        Client(bundle, placement={"base": one.address, "*": "here"}, threads=1) as client,
        pytest.raises(InvalidRequest, match="last component of this request runs here"),
    ):
        client.submit(REQUEST)


def test_a_private_server_runs_what_is_placed_there(bundle: Bundle, answers: LocalAnswers) -> None:
    """With no address at all, also a part in the middle."""
    with Client(bundle, placement={"sr16": "there", "*": "here"}, threads=1) as client:
        result = client.run(REQUEST)
    np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])
    assert [hop.side for hop in result.hops] == ["here", "private server", "here"]
