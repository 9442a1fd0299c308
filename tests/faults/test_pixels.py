"""Pixels by groups under faults: given up, late, cut off in the middle; never another picture.

Against the tolerance of the other families the right answer here is exact.
"""

import contextlib
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.events import Progress, Resumed, StageFinished
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.client import Client
from tests.support.asking import START
from tests.support.breakable_wire import BreakableWire
from tests.support.counting_engine import CountingEngine
from tests.support.pixel_bundle import STAGES, write_pixel_bundle
from tests.support.server_process import BRIEFLY, Victim, victim
from tests.support.serving import (
    PROMPT,
    Caller,
    connect,
    local_results,
    pixels,
    request_message,
    results_of,
    running,
)

PASSES = sum(scheme.passes for scheme, _ in STAGES.values())
RUNS = PASSES + sum(scheme.head_runs for scheme, _ in STAGES.values())
"""Of bodies and of all engines, for one picture."""


@pytest.fixture(scope="module")
def slow_pixels(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Passes that last some milliseconds."""
    return write_pixel_bundle(tmp_path_factory.mktemp("pixels") / "bundle", slow_layers=40)


@pytest.fixture(scope="module")
def pixel_server(slow_pixels: Bundle) -> Iterator[Victim]:
    """A server process of them where up to four requests share each run."""
    with victim(slow_pixels, "--max-batch-rows", "4", "--no-refuse-late", *BRIEFLY) as server:
        yield server


@pytest.fixture
def caller(pixel_server: Victim) -> Iterator[Caller]:
    """A connection of its own."""
    with connect(pixel_server.address) as connected:
        yield connected


def asking(bundle: Bundle, name: str, seed: int = 0) -> pb.GenerateRequest:
    """A request under an id of its own."""
    message: pb.GenerateRequest = request_message(bundle, request_id=name, prompt=START, seed=seed)
    return message


def truth(bundle: Bundle, seed: int = 0) -> np.ndarray:
    """The right picture, computed in this process."""
    image = local_results(bundle, GenerateRequest(prompt=PROMPT, seed=seed))["px32"].handoff.image
    assert image is not None
    return image


def test_a_request_given_up_in_a_pass_stops_there(
    pixel_server: Victim, caller: Caller, slow_pixels: Bundle
) -> None:
    """Its neighbours' pixels are the same to the bit, and nothing of it is left."""
    given_up = caller.generate(asking(slow_pixels, "given-up", 9), timeout_s=None)
    for response in given_up:
        if response.progress.stage.startswith("px"):
            break
    neighbours = [caller.generate(asking(slow_pixels, f"n{s}", s)) for s in (5, 6)]
    given_up.cancel()
    for seed, call in zip((5, 6), neighbours, strict=True):
        found = pixels(results_of(call)["px32"].image)
        np.testing.assert_array_equal(found, truth(slow_pixels, seed))
    pixel_server.wait_until_idle()
    assert given_up.code() == grpc.StatusCode.CANCELLED


def test_no_cancellation_is_lost(pixel_server: Victim, caller: Caller, slow_pixels: Bundle) -> None:
    """After any number of events; the next request gets its picture."""
    for trial in range(12):
        call = caller.generate(asking(slow_pixels, f"trial-{trial}"), timeout_s=None)
        with contextlib.suppress(grpc.RpcError):
            for _ in range(trial):
                next(call, None)
        call.cancel()
    pixel_server.wait_until_idle()
    found = pixels(results_of(caller.generate(asking(slow_pixels, "after")))["px32"].image)
    np.testing.assert_array_equal(found, truth(slow_pixels))


def test_a_deadline_ends_the_work(
    pixel_server: Victim, caller: Caller, slow_pixels: Bundle
) -> None:
    """Inside a stage, with its status; the server is idle again."""
    call = caller.generate(asking(slow_pixels, "late"), timeout_s=0.02)
    with pytest.raises(grpc.RpcError) as late:
        list(call)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    pixel_server.wait_until_idle()


def test_a_cut_connection_is_resumed_and_no_pass_made_twice(slow_pixels: Bundle) -> None:
    """The picture is the right one, and the engines ran as often as without the cut."""
    CountingEngine.runs = 0
    request = GenerateRequest(prompt=PROMPT, seed=3)
    with (
        running(slow_pixels, CountingEngine, cut=1) as server,
        BreakableWire(server.address) as wire,
        Client(slow_pixels, server=wire.address, cut=1, threads=1) as client,
    ):
        CountingEngine.runs = 0
        events = []
        for event in client.events(request):
            events.append(event)
            is_first = sum(isinstance(e, Progress) for e in events) == 1
            if isinstance(event, Progress) and event.stage != "text_encoder" and is_first:
                wire.cut()
        runs = CountingEngine.runs
    assert [type(e) for e in events].count(Resumed) == 1
    (last,) = [e for e in events if isinstance(e, StageFinished) and e.stage == "px32"]
    assert last.handoff.image is not None
    np.testing.assert_array_equal(last.handoff.image, truth(slow_pixels, 3))
    assert runs == RUNS
