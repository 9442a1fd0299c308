"""Callers that do not read: the work goes on, they lose news and nothing else."""

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.serving import (
    PROMPT,
    RunningServer,
    connect,
    local_results,
    pixels,
    request_message,
    results_of,
    running,
    wait_until,
)

STEPS = 1000
START = pb.PromptStart(prompt=PROMPT)
OPTIONS = {"base": pb.StageOptions(steps=2), "sr16": pb.StageOptions(steps=STEPS)}
LIVELY = pb.OutputOptions(preview_every=1)
"""A preview of every step: together far more than a connection takes in unread."""
NARROW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096))
"""A client that takes in little more than it was asked to read."""


def waiting(server: RunningServer) -> int:
    """Deliveries that wait for a reader, over all requests."""
    running = server.requests.index.running
    return sum(len(call.queue) for request in running for call in request.subscriptions)


def test_who_reads_late_gets_every_result_and_only_the_latest_news(bundle: Bundle) -> None:
    """Nothing is read until the work is done: the server held a handful of deliveries meanwhile."""
    message = request_message(bundle, prompt=START, options=OPTIONS, output=LIVELY)
    most = 0
    with running(bundle) as server, connect(server.address, *NARROW) as caller:
        call = caller.generate(message, timeout_s=300)

        def is_made() -> bool:
            nonlocal most
            most = max(most, waiting(server))
            return server.requests.index.kept.count == 1

        wait_until(is_made, timeout_s=300)
        # Four components: one progress and one preview each, and their results.
        assert 0 < most <= 3 * 4 + 1
        assert server.core.executor.counts.in_flight == 1
        responses = list(call)
        wait_until(lambda: server.is_at_rest)
    previews = [r.preview for r in responses if r.WhichOneof("event") == "preview"]
    assert len(previews) < STEPS
    assert responses[-1].WhichOneof("event") == "done"
    options = {"base": DiffusionOptions(steps=2), "sr16": DiffusionOptions(steps=STEPS)}
    expected = local_results(bundle, GenerateRequest(prompt=PROMPT, options=options))
    for name in ("base", "sr16", "sr32"):
        image = expected[name].handoff.image
        assert image is not None
        assert np.array_equal(pixels(results_of(responses)[name].image), image)


def test_who_reads_nothing_is_cut_off_and_its_result_kept(bundle: Bundle) -> None:
    """After the server's patience nothing is held but the kept result, which is still to be had."""
    message = request_message(bundle, prompt=START, options=OPTIONS, output=LIVELY, detach=True)
    with (
        running(bundle, reader_patience_s=0.3) as server,
        connect(server.address, *NARROW) as caller,
    ):
        call = caller.generate(message, timeout_s=None)
        wait_until(lambda: server.requests.index.kept.count == 1, timeout_s=300)
        wait_until(lambda: server.is_at_rest)
        with connect(server.address) as other:
            message.output.preview_every = 0
            assert list(results_of(other.generate(message)))[-1] == "sr32"
        with pytest.raises(grpc.RpcError) as cut_off:
            list(call)
        assert cut_off.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_deadline_frees_what_a_silent_reader_holds(bundle: Bundle) -> None:
    """Also where the server itself would be patient for longer."""
    message = request_message(bundle, prompt=START, options=OPTIONS, output=LIVELY)
    with running(bundle) as server, connect(server.address, *NARROW) as caller:
        call = caller.generate(message, timeout_s=3)
        wait_until(lambda: server.core.executor.counts.in_flight == 1)
        wait_until(lambda: server.is_at_rest, timeout_s=120)
        with pytest.raises(grpc.RpcError) as late:
            list(call)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
