"""What broken connections, restarted servers and impatient callers do to a picture: nothing wrong.

Either the same pixels as a local run, or a typed error.
"""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    TransportError,
)
from cascade.events import Event, FellBack, Progress, StageFinished
from cascade.request import GenerateRequest, Handoff
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_client.deadline import Deadline
from runtime_client.remote.connection import Connection
from runtime_client.remote.remote_stage import RemoteStage
from runtime_client.remote.server_link import NamedServer, ServerLink
from runtime_client.remote.transport import Security
from tests.congruence.children import LocalAnswers, ServerChild, serving
from tests.support.tiny_bundle import write_tiny_bundle

REQUEST = GenerateRequest(prompt="a red apple", seed=11)
SLOW = GenerateRequest(prompt="a red apple", seed=11, options={"base": DiffusionOptions(steps=2)})


@pytest.fixture
def socket_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path short enough for a socket."""
    return f"unix:{tmp_path_factory.mktemp('s') / 's.sock'}"


@pytest.fixture
def server(bundle: Bundle, socket_address: str) -> Iterator[ServerChild]:
    """A server that a test may kill."""
    with serving(bundle, socket_address) as child:
        yield child


@pytest.fixture
def slow_server(slow_bundle: Bundle, socket_address: str) -> Iterator[ServerChild]:
    """A slow one that a test may kill."""
    with serving(slow_bundle, socket_address) as child:
        yield child


def kill_at_first_step(client: Client, server: ServerChild) -> list[Event]:
    """Kill the server while its first component denoises; every event until the end."""
    events: list[Event] = []
    is_killed = False
    for event in client.events(SLOW):
        events.append(event)
        if isinstance(event, Progress) and event.stage == "sr16" and not is_killed:
            is_killed = True
            server.kill()
    return events


def test_a_restarted_server_is_not_noticed(
    bundle: Bundle, answers: LocalAnswers, server: ServerChild
) -> None:
    """The context's handle is forgotten with it; the embeddings go along inline."""
    with Client(bundle, server=server.address, cut=2, threads=1) as client:
        client.run(REQUEST)
        known = client.run(REQUEST)
        server.kill()
        server.start()
        after = client.run(REQUEST)
        again = client.run(REQUEST)
    np.testing.assert_array_equal(after.image, answers.images(REQUEST)["sr32"])
    np.testing.assert_array_equal(again.image, after.image)
    assert after.bytes_up > known.bytes_up
    assert not after.fell_back


def test_a_server_killed_in_mid_stream_is_a_typed_error(
    slow_bundle: Bundle, slow_server: ServerChild
) -> None:
    """Never a hang, never half a picture; and the client works again once the server does."""
    with Client(slow_bundle, server=slow_server.address, cut=2, threads=1) as client:
        with pytest.raises(TransportError):
            kill_at_first_step(client, slow_server)
        slow_server.start()
        assert client.run(SLOW).image.shape == (32, 32, 3)


def test_a_server_killed_in_mid_stream_falls_back(
    slow_bundle: Bundle, slow_server: ServerChild
) -> None:
    """The rest runs here from the last handoff and says so; the pixels are those of a local run."""
    local = LocalAnswers(slow_bundle)
    expected = local.images(SLOW)["sr32"]
    local.close()
    config = ClientConfig(server=slow_server.address, fallback="local", threads=1)
    with Client(slow_bundle, config, cut=2) as client:
        events = kill_at_first_step(client, slow_server)
    assert [e.stage for e in events if isinstance(e, FellBack)] == ["sr16"]
    last = [e for e in events if isinstance(e, StageFinished)][-1]
    np.testing.assert_array_equal(last.handoff.image, expected)


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_no_server_at_all_falls_back(
    bundle: Bundle, answers: LocalAnswers, socket_address: str, cut: int
) -> None:
    """Every remote component runs here."""
    config = ClientConfig(server=socket_address, fallback="local", threads=1)
    with Client(bundle, config, cut=cut) as client:
        result = client.run(REQUEST)
    assert result.fell_back
    assert result.bytes_up == 0
    np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])


def test_a_private_server_that_died_is_replaced(bundle: Bundle, answers: LocalAnswers) -> None:
    """The next request starts another."""
    with Client(bundle, cut=2, threads=1) as client:
        client.run(REQUEST)
        private = client._resources._private
        assert private is not None
        private.close()
        np.testing.assert_array_equal(client.run(REQUEST).image, answers.images(REQUEST)["sr32"])


def test_closing_at_random_moments_leaves_the_server_usable(
    bundle: Bundle, answers: LocalAnswers, unix_server: str
) -> None:
    """Thirty callers who lose interest; the one after them gets the right picture."""
    moments = random.Random(0)
    clients = [Client(bundle, server=unix_server, cut=cut, threads=1) for cut in (0, 1, 2)]
    request = GenerateRequest(prompt="a red apple", seed=11, preview_every=1)
    try:
        for turn in range(30):
            events = clients[turn % 3].events(request)
            for _ in range(moments.randrange(16)):
                next(events, None)
            events.close()  # type: ignore[attr-defined]
        for client in clients:
            np.testing.assert_array_equal(
                client.run(REQUEST).image, answers.images(REQUEST)["sr32"]
            )
    finally:
        for client in clients:
            client.close()


def test_a_call_is_ended_from_another_thread(slow_bundle: Bundle, slow_server: ServerChild) -> None:
    """`terminate` ends a remote stage's run as `Cancelled`; the next run is not affected."""
    connection = Connection(
        ServerLink(NamedServer(slow_server.address), Security(), (slow_bundle.bundle_id,), 60.0)
    )
    stage = RemoteStage(connection, slow_bundle.manifest, range(4), Deadline.after(60.0))
    stage.terminate()
    assert stage.names == ("text_encoder", "base", "sr16", "sr32")

    def run_until_ended() -> None:
        steps = DiffusionOptions(steps=1000)
        endless = replace(SLOW, options={**SLOW.options, "sr16": steps, "sr32": steps})
        events = stage.run(endless, Handoff(prompt=SLOW.prompt))
        next(events)
        timer.start()
        for _ in events:
            pass

    timer = threading.Timer(0.2, stage.terminate)
    try:
        with pytest.raises(Cancelled):
            run_until_ended()
        timer.join()
        quick = {name: DiffusionOptions(steps=1) for name in ("base", "sr16", "sr32")}
        request = GenerateRequest(prompt="a cat", options=quick)
        events = list(stage.run(request, Handoff(prompt="a cat")))
        assert sum(isinstance(event, StageFinished) for event in events) == 4
    finally:
        connection.close()


def test_another_bundle_is_refused(bundle: Bundle, tmp_path: Path, unix_server: str) -> None:
    """Same components, other weights or defaults: a typed error, never a wrong picture."""
    other = write_tiny_bundle(tmp_path / "other", steps=4)
    with (
        Client(other, server=unix_server, cut=2, threads=1) as client,
        pytest.raises(BundleMismatch, match=bundle.bundle_id[:12]),
    ):
        client.run(REQUEST)


def test_a_component_that_is_not_hosted_is_named(bundle: Bundle, socket_address: str) -> None:
    """A server that starts after this client's cut."""
    with serving(bundle, socket_address, cut=3):
        with (
            Client(bundle, server=socket_address, cut=2, threads=1) as client,
            pytest.raises(BundleMismatch, match="sr16"),
        ):
            client.run(REQUEST)
        with Client(bundle, server=socket_address, cut=3, threads=1) as client:
            assert client.run(REQUEST).image.shape == (32, 32, 3)


def test_the_time_allowed_is_kept(slow_bundle: Bundle, slow_server: ServerChild) -> None:
    """Wherever it runs out, here or there."""
    for cut in (0, 4):
        with (
            Client(
                slow_bundle, server=slow_server.address, cut=cut, threads=1, timeout_s=0.05
            ) as client,
            pytest.raises(DeadlineExceeded),
        ):
            client.run(
                GenerateRequest(prompt="a cat", options={"base": DiffusionOptions(steps=1000)})
            )


def test_the_servers_refusal_comes_back_typed(bundle: Bundle, unix_server: str) -> None:
    """A prompt that only the text encoder finds too long, wherever that runs."""
    fields = []
    for cut in (0, 1):
        with Client(bundle, server=unix_server, cut=cut, threads=1) as client:
            with pytest.raises(CascadeError) as found:
                client.generate("cat " * 40)
            fields.append((type(found.value).__name__, found.value.field))
    assert fields == [("InvalidRequest", "prompt")] * 2


def test_a_closed_client_says_so(bundle: Bundle, unix_server: str) -> None:
    """Closing twice is harmless; working afterwards is an error."""
    client = Client(bundle, server=unix_server, cut=2, threads=1)
    client.run(REQUEST)
    client.close()
    client.close()
    with pytest.raises(Cancelled, match="closed"):
        client.run(REQUEST)
