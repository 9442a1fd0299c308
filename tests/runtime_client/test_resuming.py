"""A connection that breaks in the middle: the same picture, and no step computed twice.

And work that is left to the server: picked up later, once or twice, or ended.
"""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    TransportError,
    UnknownRequest,
)
from cascade.events import Event, Progress, Resumed, StageFinished
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.client import Client
from runtime_client.remote.retry import MAX_RESUMES
from tests.support.breakable_wire import BreakableWire
from tests.support.counting_engine import CountingEngine
from tests.support.serving import RunningServer, local_results, running, wait_until
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.unhurried_engine import UnhurriedEngine

STEPS = {"base": 1, "sr16": 60, "sr32": 60}
OPTIONS = {name: DiffusionOptions(steps=steps, guidance=1.0) for name, steps in STEPS.items()}
REQUEST = GenerateRequest(prompt="a red apple", seed=7, options=OPTIONS)
RUNS = STEPS["sr16"] + STEPS["sr32"]
"""Engine runs on the server at the default cut."""
LONG = GenerateRequest(
    prompt="a red apple",
    seed=7,
    options={**OPTIONS, "sr16": DiffusionOptions(steps=1000), "sr32": DiffusionOptions(steps=1000)},
)


@pytest.fixture(scope="module")
def steady_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One whose steps last some milliseconds."""
    return write_tiny_bundle(tmp_path_factory.mktemp("steady") / "b", slow_layers=20, steps=1000)


@pytest.fixture(scope="module")
def expected(steady_bundle: Bundle) -> ImageU8:
    """The right picture."""
    image = local_results(steady_bundle, REQUEST)["sr32"].handoff.image
    assert image is not None
    return image


@pytest.fixture(scope="module")
def shared_server(steady_bundle: Bundle) -> Iterator[RunningServer]:
    """A server whose engines count."""
    with running(steady_bundle, CountingEngine) as running_server:
        yield running_server


@pytest.fixture
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The same with the count at zero; whatever the test did, nothing is inside in the end."""
    CountingEngine.runs = 0
    yield shared_server
    wait_until(lambda: shared_server.is_at_rest)


@pytest.fixture
def wire(server: RunningServer) -> Iterator[BreakableWire]:
    """The way to it."""
    with BreakableWire(server.address) as breakable:
        yield breakable


def run_and_cut(
    client: Client, wire: BreakableWire, *, at: tuple[tuple[str, int], ...]
) -> list[Event]:
    """The events of a request during which the wire is cut at those steps."""
    events: list[Event] = []
    left = list(at)
    for event in client.events(REQUEST):
        events.append(event)
        if isinstance(event, Progress) and left and (event.stage, event.done) >= left[0]:
            left.pop(0)
            wire.cut()
    return events


@pytest.mark.parametrize(
    "at",
    [(("sr16", 5),), (("sr32", 5),), (("sr16", 5), ("sr16", 30), ("sr32", 20))],
    ids=["first stage", "after a result", "three times"],
)
def test_a_cut_connection_is_resumed_and_nothing_computed_twice(
    server: RunningServer,
    wire: BreakableWire,
    steady_bundle: Bundle,
    expected: ImageU8,
    at: tuple[tuple[str, int], ...],
) -> None:
    """Every result comes once, the picture is right, and the engine ran as often as without.

    News that come late give way to newer ones, so a busy reader may see no step to cut at.
    """
    with Client(steady_bundle, server=wire.address, threads=1) as client:
        events = run_and_cut(client, wire, at=at)
    resumed = sum(isinstance(event, Resumed) for event in events)
    assert 1 <= resumed <= len(at)
    finished = [event for event in events if isinstance(event, StageFinished)]
    assert [event.stage for event in finished] == ["text_encoder", "base", "sr16", "sr32"]
    picture = finished[-1].handoff.image
    assert picture is not None
    assert np.array_equal(picture, expected)
    assert CountingEngine.runs == RUNS
    assert wire.connections == 1 + resumed
    assert not server.requests.index.running


def test_a_connection_cut_after_the_end_gets_the_kept_result(
    wire: BreakableWire, server: RunningServer, steady_bundle: Bundle, expected: ImageU8
) -> None:
    """A caller that was away while the work was finished."""
    picture = None
    with Client(steady_bundle, server=wire.address, threads=1) as client:
        for event in client.events(REQUEST):
            if isinstance(event, Progress) and (event.stage, event.done) == ("sr16", 5):
                wire.cut()
                wait_until(lambda: bool(server.requests.index.kept.count), timeout_s=120)
            if isinstance(event, StageFinished):
                picture = event.handoff.image
    assert picture is not None
    assert np.array_equal(picture, expected)
    assert CountingEngine.runs == RUNS


def test_without_lingering_a_cut_connection_is_an_error(
    wire: BreakableWire, steady_bundle: Bundle
) -> None:
    """And the server stops at once."""
    with (
        Client(steady_bundle, server=wire.address, threads=1, linger_s=0.0) as client,
        pytest.raises(TransportError),
    ):
        run_and_cut(client, wire, at=(("sr16", 5),))
    assert CountingEngine.runs < RUNS


def test_a_connection_that_keeps_breaking_is_given_up(
    wire: BreakableWire, steady_bundle: Bundle
) -> None:
    """A request that brings its server down does so a bounded number of times."""
    resumed: list[Event] = []

    def cut(event: Event) -> None:
        if isinstance(event, Resumed):
            resumed.append(event)
        elif isinstance(event, Progress) and event.stage == "sr16":
            wire.cut()

    with (
        Client(steady_bundle, server=wire.address, threads=1) as client,
        pytest.raises(TransportError),
    ):
        client.run(LONG, on_event=cut)
    assert len(resumed) == MAX_RESUMES


def test_giving_up_tells_the_server(server: RunningServer, steady_bundle: Bundle) -> None:
    """Closing the events, or the client, ends the work long before the lingering does."""
    for give_up in ("events", "client"):
        client = Client(steady_bundle, server=server.address, threads=1, linger_s=600.0)
        events = client.events(LONG)
        assert any(isinstance(e, Progress) and e.stage == "sr16" for e in events)
        if give_up == "events":
            events.close()  # type: ignore[attr-defined]
            wait_until(lambda: server.is_at_rest)
        client.close()
        wait_until(lambda: server.is_at_rest)


def test_closing_while_another_thread_waits_tells_the_server(
    server: RunningServer, steady_bundle: Bundle
) -> None:
    """The thread is told that it was cancelled, the server that nobody waits."""
    client = Client(steady_bundle, server=server.address, threads=1, linger_s=600.0)
    heard: list[BaseException] = []

    def work() -> None:
        try:
            client.run(LONG)
        except Cancelled as exc:
            heard.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: CountingEngine.runs > 3)
    client.close()
    thread.join(timeout=120)
    assert len(heard) == 1
    wait_until(lambda: server.is_at_rest)


def test_work_is_left_to_the_server_and_picked_up_by_another_client(
    server: RunningServer, steady_bundle: Bundle, expected: ImageU8
) -> None:
    """Twice, the second time from what is kept; the work was done once."""
    with Client(steady_bundle, server=server.address, threads=1) as client:
        request_id = client.submit(REQUEST)
    for _ in range(2):
        with Client(steady_bundle, server=server.address) as other:
            result = other.fetch(request_id)
        assert list(result.images) == ["sr16", "sr32"]
        assert np.array_equal(result.image, expected)
        assert (result.seed, result.image_index) == (None, None)
        spent = sum(s for name, s in result.seconds.items() if name != "total")
        assert spent <= result.seconds["total"]
    assert CountingEngine.runs == RUNS


def test_fetching_survives_a_cut_too(
    wire: BreakableWire, server: RunningServer, steady_bundle: Bundle, expected: ImageU8
) -> None:
    """Detached work does not care who listens."""
    with Client(steady_bundle, server=server.address, threads=1) as client:
        request_id = client.submit(REQUEST)
    cuts: list[Event] = []

    def cut_once(event: Event) -> None:
        if isinstance(event, Progress) and not cuts:
            cuts.append(event)
            wire.cut()

    with Client(steady_bundle, server=wire.address) as other:
        result = other.fetch(request_id, on_event=cut_once)
    assert np.array_equal(result.image, expected)
    assert len(cuts) == 1
    assert CountingEngine.runs == RUNS


def test_left_work_can_be_ended(server: RunningServer, steady_bundle: Bundle) -> None:
    """Once; nothing of it can be fetched then."""
    with Client(steady_bundle, server=server.address, threads=1) as client:
        request_id = client.submit(LONG)
        assert client.cancel(request_id)
        wait_until(lambda: server.is_at_rest)
        assert not client.cancel(request_id)
        with pytest.raises(UnknownRequest, match=request_id):
            client.fetch(request_id)


def test_left_work_ends_at_its_own_deadline(steady_bundle: Bundle) -> None:
    """And who fetches it is told why there is nothing.

    On a server that knows no step times yet: another one would refuse at once. Its steps last at
    least ten milliseconds, 2,000 of them, so that no machine is done in time.
    """
    with running(steady_bundle, UnhurriedEngine) as server:
        with Client(steady_bundle, server=server.address, threads=1, timeout_s=2.5) as client:
            request_id = client.submit(LONG)
        wait_until(lambda: server.is_at_rest)
        with (
            Client(steady_bundle, server=server.address) as other,
            pytest.raises(DeadlineExceeded),
        ):
            other.fetch(request_id)


def test_only_a_server_that_stays_can_be_left_work(
    server: RunningServer, steady_bundle: Bundle
) -> None:
    """Neither a private server nor a cut that leaves nothing to it."""
    with Client(steady_bundle) as client:
        for call in (lambda: client.submit(REQUEST), lambda: client.fetch("x")):
            with pytest.raises(InvalidRequest, match="server"):
                call()
    with (
        Client(steady_bundle, server=server.address, cut=4) as client,
        pytest.raises(InvalidRequest, match="cut"),
    ):
        client.submit(REQUEST)
