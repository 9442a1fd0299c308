"""Links that die without a word, and servers that are gone for a while."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import DeadlineExceeded, TransportError
from cascade.events import Accepted, Event, FellBack, Progress, Resumed
from cascade.request import GenerateRequest
from runtime_client import Client
from runtime_client.deadline import Deadline
from runtime_client.local.local_times import LocalTimes, before_fallback
from runtime_client.remote.transport import Keepalive, Security, Transport
from tests.faults.proxy import proxy
from tests.support.asking import QUICK, QUICK_STEPS, answer, differs
from tests.support.bare_server import BareServer
from tests.support.reserved_port import reserved_address
from tests.support.server_process import BRIEFLY, READY_WITHIN_S, Victim, victim
from tests.support.serving import HANG_S, PROMPT, running, wait_until
from wire.server_info import decode_info, encode_info_request
from wire.service import GENERATE, GET_SERVER_INFO

LONG = GenerateRequest(prompt=PROMPT, options={"sr16": DiffusionOptions(steps=1000)})
QUICKLY = GenerateRequest(
    prompt=PROMPT,
    options={name: DiffusionOptions(steps=count) for name, count in QUICK_STEPS.items()},
)
PING_LIMIT_S = 60.0
"""gRPC's own time limit of a ping: what is found sooner was found by our settings."""
BACK_AFTER_S = 2.0


def test_a_link_that_dies_is_noticed(slow: Victim) -> None:
    """37. Long before the deadline, and before gRPC would by itself; here in 1.5 s, not 15."""
    with (
        proxy(slow.address) as between,
        Client(slow.bundle, server=between.address, cut=0, linger_s=0.0, dead_link_s=1.5) as client,
    ):
        events = client.events(LONG)
        next(events)
        between.weather.silent = True
        begun = time.monotonic()
        with pytest.raises(TransportError, match="ping timeout"):
            list(events)
        assert time.monotonic() - begun < PING_LIMIT_S
    slow.wait_until_idle()


def test_a_link_that_dies_late_is_noticed_too() -> None:
    """37. gRPC by itself sends two pings, then one a minute: the fifth would come after minutes."""
    keepalive = Keepalive(time_ms=400, timeout_ms=400)
    with BareServer(pongs=4) as silent:
        transport = Transport(silent.address, Security(keepalive=keepalive))
        begun = time.monotonic()
        with pytest.raises(TransportError, match="ping timeout"):
            next(transport.stream(GENERATE, b"", timeout_s=3 * PING_LIMIT_S))
        assert time.monotonic() - begun < PING_LIMIT_S
        transport.close()
        assert silent.pings == 5


def test_a_dead_link_is_fallen_back_from(slow: Victim) -> None:
    """37. The rest runs here, and is right; the deadline is far away."""
    events: list[Event] = []
    with (
        proxy(slow.address) as between,
        Client(
            slow.bundle, server=between.address, cut=1, fallback="local", dead_link_s=1.5
        ) as client,
    ):

        def silence(event: Event) -> None:
            events.append(event)
            between.weather.silent |= isinstance(event, Accepted)

        result = client.run(QUICKLY, on_event=silence)
        assert result.fell_back
        assert not differs(result.image, answer(slow.bundle, 0, QUICK))
    assert any(isinstance(event, Resumed) for event in events)


def test_a_fallback_comes_in_time_for_the_deadline(bundle: Bundle) -> None:
    """37. Nothing is known of a link that is silent from the start, nor of the times here."""
    with (
        running(bundle) as server,
        proxy(server.address, silent=True) as between,
        Client(bundle, server=between.address, cut=1, fallback="local", timeout_s=12.0) as client,
    ):
        # The picture takes milliseconds here, of six seconds that are left for it.
        events = list(client.events(QUICKLY))
    assert [event.stage for event in events if isinstance(event, FellBack)] == ["base"]


def test_what_was_measured_here_is_kept_free_before_the_deadline(bundle: Bundle) -> None:
    """37. Half the time while nothing is known, then one and a half times what it took, and 1 s."""
    deadline = Deadline.after(40.0, lambda: 0.0)
    assert before_fallback(deadline, None).ends_at == pytest.approx(20.0)
    assert before_fallback(deadline, 10.0).ends_at == pytest.approx(24.0)
    # It could not be done here anyway: the server gets all there is.
    assert before_fallback(deadline, 30.0) is deadline
    with Client(bundle) as client:
        times = LocalTimes(bundle.manifest, client.config.engine_options)
    rest = range(2, 4)
    times.note("sr16", QUICKLY, 4.0)
    assert times.rest_s(QUICKLY, rest) is None
    times.note("sr32", QUICKLY, 6.0)
    assert times.rest_s(QUICKLY, rest) == pytest.approx(10.0)
    longer = GenerateRequest(prompt=PROMPT, options={"sr16": DiffusionOptions(steps=20)})
    assert times.rest_s(longer, range(2, 3)) == pytest.approx(40.0)


def test_without_a_fallback_the_deadline_is_the_requests(slow: Victim) -> None:
    """37. A client that raises gives the server all the time there is."""
    with (
        proxy(slow.address, silent=True) as between,
        Client(slow.bundle, server=between.address, cut=0, timeout_s=3.0) as client,
    ):
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.run(QUICKLY)
        assert time.monotonic() - begun > 2.9


def test_a_server_that_is_killed_and_restarted_is_reached(
    slow_bundle: Bundle, tmp_path: Path
) -> None:
    """37. Eight requests on one connection, the server back after 2 s: all of them come.

    How long a process takes to start depends on the machine, so the client lingers for long; that
    5 s are enough for a server that listens after 2 s is shown by the clock of `test_retry`.
    """
    truth = answer(slow_bundle, 0, QUICK)
    with (
        reserved_address() as address,
        ThreadPoolExecutor(8) as pool,
        victim(slow_bundle, *(listen := ("--listen", address, *BRIEFLY))) as first,
    ):
        choices = {"server": first.address, "cut": 1, "linger_s": READY_WITHIN_S, "threads": 1}
        with Client(slow_bundle, **choices) as client:
            heard = threading.Semaphore(0)

            def work(_: int) -> tuple[list[Event], object]:
                events: list[Event] = []

                def note(event: Event) -> None:
                    events.append(event)
                    if isinstance(event, Accepted | Progress) and len(events) < 50:
                        heard.release()

                return events, client.run(QUICKLY, on_event=note).image

            running_ones = [pool.submit(work, number) for number in range(8)]
            heard.acquire(timeout=READY_WITHIN_S)
            first.kill()
            time.sleep(BACK_AFTER_S)
            with victim(slow_bundle, *listen):
                done = [future.result(timeout=READY_WITHIN_S) for future in running_ones]
    assert all(not differs(image, truth) for _, image in done)  # type: ignore[arg-type]
    assert any(isinstance(event, Resumed) for events, _ in done for event in events)


def test_the_first_call_after_an_outage_really_tries(bundle: Bundle) -> None:
    """37. Not the refusal of the last attempt, as gRPC repeats it until its own pause is over."""
    with reserved_address() as address:
        transport = Transport(address, Security())
        ask = encode_info_request()
        for _ in range(6):
            with pytest.raises(TransportError, match="cannot be reached"):
                transport.unary(GET_SERVER_INFO, ask, timeout_s=HANG_S)
        with running(bundle, listen=address):
            reply = transport.unary(GET_SERVER_INFO, ask, timeout_s=HANG_S)
            assert decode_info(reply).bundle_id == bundle.bundle_id
        transport.close()


def test_one_break_of_a_connection_costs_no_request(slow: Victim) -> None:
    """37. More requests on it than the budget of retries has tokens."""
    with (
        proxy(slow.address) as between,
        Client(slow.bundle, server=between.address, cut=1, linger_s=60.0) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        client.run(QUICKLY)
        asked = [pool.submit(client.run, QUICKLY) for _ in range(16)]
        wait_until(lambda: slow.gauge("in_flight") > 0, 60)
        between.reset_all()
        images = [future.result(timeout=120).image for future in asked]
    truth = answer(slow.bundle, 0, QUICK)
    assert all(not differs(np.asarray(image), truth) for image in images)
