"""Networks between the SDK and the server: slow, silent, torn, half closed, refusing."""

import contextlib
import random
import threading
from typing import Any

import grpc
import pytest

from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import CascadeError, DeadlineExceeded, TransportError
from cascade.request import GenerateRequest
from runtime_client import Client
from tests.faults.proxy import Proxy, proxy
from tests.faults.relay import relay
from tests.support.asking import QUICK_STEPS, answer, asking_long, differs
from tests.support.server_process import Victim
from tests.support.serving import PROMPT, Caller, wait_until

OPTIONS = {name: DiffusionOptions(steps=count) for name, count in QUICK_STEPS.items()}
REQUEST = GenerateRequest(prompt=PROMPT, options=OPTIONS)
STORM = 60
"""Requests of the retry storm."""


def picture_through(server: Victim, between: Proxy, timeout_s: float = 120) -> None:
    """One picture over the proxy, and it is the right one."""
    with Client(server.bundle, server=between.address, cut=0, timeout_s=timeout_s) as client:
        assert not differs(client.run(REQUEST).image, answer(server.bundle))


def test_latency_and_a_narrow_line_only_delay(quick: Victim) -> None:
    """27. 20 ms each way and 200 kB/s: the same picture, later."""
    with proxy(quick.address, latency_s=0.02, bytes_per_s=200_000) as between:
        picture_through(quick, between)
        assert between.connections == 1


def test_a_stall_ends_at_the_deadline(slow: Victim) -> None:
    """27. A network that goes silent in mid-stream: DeadlineExceeded, nothing left."""
    request = GenerateRequest(prompt=PROMPT, options={"sr16": DiffusionOptions(steps=1000)})
    with (
        proxy(slow.address) as between,
        Client(slow.bundle, server=between.address, cut=0, timeout_s=4) as client,
    ):
        events = client.events(request)
        next(events)
        between.weather.silent = True
        with pytest.raises(DeadlineExceeded):
            list(events)
        slow.wait_until_idle()


def test_a_short_stall_is_not_noticed(quick: Victim) -> None:
    """27. One second of silence before the first byte."""
    with proxy(quick.address, silent=True) as between:
        timer = threading.Timer(1, setattr, (between.weather, "silent", False))
        timer.start()
        picture_through(quick, between)
        timer.join()


@pytest.mark.parametrize("after", [1, 300, 1500, 3000])
def test_a_torn_connection_is_survived_or_typed(quick: Victim, after: int) -> None:
    """27. RST after so many bytes of every connection: the right picture, resumed, or typed."""
    with (
        proxy(quick.address, reset_after_bytes=after) as between,
        Client(quick.bundle, server=between.address, cut=0, timeout_s=120) as client,
    ):
        try:
            assert not differs(client.run(REQUEST).image, answer(quick.bundle))
        except TransportError:
            assert between.connections > 1
        between.weather.reset_after_bytes = 0
        assert not differs(client.run(REQUEST).image, answer(quick.bundle))


def test_connections_torn_at_random_moments(slow: Victim) -> None:
    """27. Every request ends right or typed; the server's accounts are as if all had been whole."""
    moments = random.Random(27)
    torn = 0
    with proxy(slow.address) as between:
        for _ in range(8):
            timer = threading.Timer(moments.random() * 0.3, between.reset_all)
            with Client(slow.bundle, server=between.address, cut=0, timeout_s=120) as client:
                timer.start()
                try:
                    assert not differs(client.run(REQUEST).image, answer(slow.bundle))
                except TransportError:
                    torn += 1
                timer.join()
            slow.wait_until_idle()
    assert torn < 8


def test_a_half_closed_connection_is_typed(quick: Victim) -> None:
    """27. FIN of one direction in mid-stream: a right picture or a typed error, never a hang."""
    with (
        proxy(quick.address, half_close_after_bytes=400) as between,
        Client(quick.bundle, server=between.address, cut=0, timeout_s=30) as client,
    ):
        try:
            assert not differs(client.run(REQUEST).image, answer(quick.bundle))
        except CascadeError as error:
            assert isinstance(error, TransportError | DeadlineExceeded)  # noqa: PT017
        between.weather.half_close_after_bytes = 0
        assert not differs(client.run(REQUEST).image, answer(quick.bundle))


def test_a_retry_storm_is_throttled(quick: Victim) -> None:
    """28. A server that answers UNAVAILABLE half the time gets at most 1.2 attempts per request."""
    toss = random.Random(28)

    def half(method: str, attempt: int) -> Any:
        if method == "Generate" and toss.random() < 0.5:
            return grpc.StatusCode.UNAVAILABLE, ()
        return None

    served = 0
    with (
        relay(quick.address, refuse=half) as storm,
        Client(quick.bundle, server=storm.address, cut=0, timeout_s=120) as client,
    ):
        for _ in range(STORM):
            with contextlib.suppress(TransportError):
                served += client.run(REQUEST).image.shape == (32, 32, 3)
        attempts = storm.attempts["Generate"]
    assert attempts <= 1.2 * STORM + 5
    assert served >= 0.4 * STORM


def test_pushback_is_obeyed(slow: Victim, slow_caller: Caller) -> None:
    """28. A full queue says when to come back; the SDK does not come sooner."""
    calls = []
    for _ in range(3):
        calls.append(slow_caller.generate(asking_long(slow.bundle), timeout_s=None))
        next(calls[-1])
        wait_until(lambda: slow.queued()["text_encoder"] == len(calls) - 1)
    with (
        relay(slow.address) as between,
        Client(slow.bundle, server=between.address, cut=0, timeout_s=4) as client,
        pytest.raises(CascadeError) as refused,
    ):
        client.run(REQUEST)
    # The queue's estimate is longer than the request's deadline, so there is no second attempt.
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 4
    assert between.attempts["Generate"] == 1
    for call in calls:
        call.cancel()
