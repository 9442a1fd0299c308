"""More requests than a server lets in at once: they wait in line, and all of them come."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import Cancelled, DeadlineExceeded
from cascade.events import Progress
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.client import Client
from runtime_client.remote.request_slots import RequestSlots, max_open_requests
from runtime_server.telemetry.server_events import Refusal, RequestRefused, ServerEvent
from tests.support.bare_server import BareServer
from tests.support.counting_engine import CountingEngine
from tests.support.serving import RunningServer, connect, local_results, running, wait_until
from tests.support.tiny_bundle import SIZES, write_tiny_bundle
from wire.server_info import decode_info

THREADS = 24
OPTIONS = {name: DiffusionOptions(steps=5, guidance=1.0) for name in ("base", "sr16", "sr32")}
LONG = {**OPTIONS, "sr32": DiffusionOptions(steps=1000, guidance=1.0)}
PICTURE_BYTES = 3 * sum(size**2 for size in SIZES)
SMALL: dict[str, dict[str, Any]] = {
    "queue": {"max_queued_per_stage": 2},
    "in flight": {"max_in_flight": 3},
    "per caller": {"max_in_flight_per_identity": 2},
    "bytes": {"max_in_flight_bytes": 3 * PICTURE_BYTES},
}


class Refusals:
    """A listener that remembers why requests were turned away."""

    def __init__(self) -> None:
        self.why: list[Refusal] = []

    def __call__(self, event: ServerEvent) -> None:
        """Note it."""
        if isinstance(event, RequestRefused):
            self.why.append(event.why)


@pytest.fixture(scope="module")
def steady_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One whose steps last some milliseconds."""
    return write_tiny_bundle(tmp_path_factory.mktemp("steady") / "b", slow_layers=20, steps=1000)


@pytest.fixture(scope="module")
def expected(steady_bundle: Bundle) -> list[ImageU8]:
    """The right picture of each thread."""
    pictures = []
    for seed in range(THREADS):
        image = local_results(steady_bundle, asking(seed))["sr32"].handoff.image
        assert image is not None
        pictures.append(image)
    return pictures


def asking(seed: int) -> GenerateRequest:
    """The request of one thread."""
    return GenerateRequest(prompt="a red apple", seed=seed, options=OPTIONS)


def pictures_of(clients: Sequence[Client]) -> list[ImageU8]:
    """What every thread gets, all of them asking at once, in turn of one client or another."""
    start = threading.Barrier(THREADS)

    def work(seed: int) -> ImageU8:
        start.wait(60)
        return clients[seed % len(clients)].run(asking(seed)).image

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.mark.parametrize("limits", SMALL.values(), ids=SMALL)
def test_every_thread_gets_its_picture_from_a_small_server(
    steady_bundle: Bundle, expected: list[ImageU8], limits: dict[str, Any]
) -> None:
    """Twenty-four threads of one client, whichever limit of the server is the small one."""
    refusals = Refusals()
    with (
        running(steady_bundle, emit=refusals, **limits) as server,
        Client(steady_bundle, server=server.address, threads=1, cut=1) as client,
    ):
        found = pictures_of([client])
        wait_until(lambda: server.is_at_rest)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    # Others of its limits count a request a moment longer than its caller does.
    assert "queue_full" not in refusals.why


def test_every_thread_gets_its_picture_from_a_private_server(
    steady_bundle: Bundle, expected: list[ImageU8]
) -> None:
    """The limits are the default ones, and a place is free for whoever comes later."""
    with Client(steady_bundle, threads=1) as client:
        found = pictures_of([client])
        again = client.run(asking(0)).image
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert np.array_equal(again, expected[0])


def test_clients_that_know_nothing_of_each_other_are_all_served(
    steady_bundle: Bundle, expected: list[ImageU8]
) -> None:
    """Together they ask for more than the server lets in; the refused ones come back."""
    refusals = Refusals()
    with running(steady_bundle, emit=refusals, max_queued_per_stage=1) as server:
        clients = [Client(steady_bundle, server=server.address, threads=1) for _ in range(6)]
        try:
            found = pictures_of(clients)
        finally:
            for client in clients:
                client.close()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_streams_that_the_server_refuses_are_asked_for_again(
    steady_bundle: Bundle, expected: list[ImageU8]
) -> None:
    """HTTP/2's REFUSED_STREAM, more often than a lost connection is tried again."""
    with (
        running(steady_bundle) as server,
        BareServer(passes_on_to=server.address, refusals=5) as full,
        Client(steady_bundle, server=full.address, threads=1) as client,
    ):
        assert np.array_equal(client.run(asking(0)).image, expected[0])
        assert full.refused == 5


def test_a_quota_is_waited_for(bundle: Bundle) -> None:
    """A caller over its quota comes back when there is enough; `test_quota` has the impatient."""
    cost = 1e-6 * sum(5 * size**2 for size in SIZES[1:])
    refusals = Refusals()
    with (
        running(bundle, emit=refusals, quota_megapixels_per_minute=20 * cost) as server,
        Client(bundle, server=server.address, threads=1) as client,
    ):
        # The bucket holds twenty, and gains one in three seconds.
        while "quota" not in refusals.why:
            assert client.run(asking(0)).image.shape == (32, 32, 3)


def test_places_are_given_in_order() -> None:
    """First come, first served; whoever leaves the line is passed over."""
    places = RequestSlots(2)
    line = [places.acquire() for _ in range(5)]
    assert [place.done() for place in line] == [True, True, False, False, False]
    places.release(line[2])
    places.release(line[1])
    assert [place.done() for place in line] == [True, True, False, True, False]
    places.release(line[0])
    assert line[4].done()
    assert all(RequestSlots(0).acquire().done() for _ in range(100))


@pytest.fixture
def busy(steady_bundle: Bundle) -> Iterator[tuple[RunningServer, Client]]:
    """A server with one place, taken by a client's request that lasts."""
    CountingEngine.runs = 0
    with (
        running(steady_bundle, CountingEngine, max_queued_per_stage=1) as server,
        Client(steady_bundle, server=server.address, threads=1) as client,
    ):
        request = GenerateRequest(prompt="a red apple", options=LONG)
        events = client.events(request)
        assert any(isinstance(event, Progress) and event.stage == "sr32" for event in events)
        yield server, client
        events.close()  # type: ignore[attr-defined]
        wait_until(lambda: server.is_at_rest)


def test_waiting_in_line_ends_at_the_deadline(busy: tuple[RunningServer, Client]) -> None:
    """And the server was not asked."""
    server, client = busy
    hasty = Client(client.bundle, server=server.address, threads=1, timeout_s=1.5)
    with hasty:
        # The connection, and so the line, is shared by all requests of one client.
        hasty._resources._connections = client._resources._connections
        with pytest.raises(DeadlineExceeded):
            hasty.run(asking(0))
        hasty._resources._connections = {}


def test_waiting_in_line_ends_with_the_client(busy: tuple[RunningServer, Client]) -> None:
    """Closing it cancels those that are in line too."""
    _, client = busy
    heard: list[BaseException] = []

    def work() -> None:
        try:
            client.run(asking(0))
        except Cancelled as exc:
            heard.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    peer = client._resources.connection().link.begin_handshake().result()
    wait_until(lambda: len(peer.slots._waiting) == 1)
    client.close()
    thread.join(timeout=120)
    assert len(heard) == 1


def test_the_limits_are_the_servers(bundle: Bundle) -> None:
    """The smallest of them counts; one that does not fit a single picture counts as one."""
    settings = {"max_in_flight": 7, "max_queued_per_stage": 9, "max_in_flight_per_identity": 8}
    for more, places in (({}, 7), ({"max_in_flight_bytes": 2 * PICTURE_BYTES + 9}, 2)):
        with running(bundle, **settings, **more) as server, connect(server.address) as caller:
            info = decode_info(caller.server_info().SerializeToString())
        assert max_open_requests(info) == places
