"""Requests that share runs: engines that fail under some, batches that others share."""

import contextlib
import threading
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import EngineError
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.asking import CONTEXT, LONG_STEPS, Steps, answer, asking, differs
from tests.support.leaks import check_silence
from tests.support.server_process import Victim
from tests.support.serving import (
    Caller,
    connect,
    details_of,
    pixels,
    results_of,
    running,
    tensor_message,
    wait_until,
)

POISON = 42.0
ROUNDS = 20
"""Until the poison and others were in one run; usually the first."""
STEPS: Steps = (("base", 2), ("sr16", 12), ("sr32", 12))


class FailingEngine:
    """The true engine, which fails as often as it is told to."""

    failures = 0

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        self._engine = open_engine(graph, choice)

    def run(self, inputs: Any) -> dict[str, Array]:
        """Run, or fail with a text that nobody outside may read."""
        if type(self).failures:
            type(self).failures -= 1
            raise EngineError("CUDA error 700 at /secret/kernels.cu:17")
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """Pass on."""
        self._engine.terminate()

    def close(self) -> None:
        """Pass on."""
        self._engine.close()


def test_an_engine_that_fails_costs_its_requests_only(bundle: Bundle) -> None:
    """14. INTERNAL with an id and nothing else; the next request is right, nothing is left."""
    FailingEngine.failures = 0
    with running(bundle, FailingEngine) as server, connect(server.address) as caller:
        # Also alone and once more: whoever tries a failed batch row by row meets it again.
        FailingEngine.failures = 3
        failed = 0
        while FailingEngine.failures:
            with pytest.raises(grpc.RpcError) as error:
                list(caller.generate(asking(bundle)))
            assert details_of(error.value)[:2] == ("INTERNAL", "ENGINE_ERROR")
            check_silence(error.value)
            failed += 1
        assert failed <= 3
        picture = pixels(results_of(caller.generate(asking(bundle)))["sr32"].image)
        assert not differs(picture, answer(bundle))
        wait_until(lambda: server.core.executor.counts.idle)


class PoisonedEngine(FailingEngine):
    """The true engine, which fails whenever a row of its batch holds the poison."""

    together = 0
    """Most rows beside the poison that one run had."""

    def run(self, inputs: Any) -> dict[str, Array]:
        """Run, or fail."""
        if "low_res" in inputs and (inputs["context"] == POISON).any():
            kind = type(self)
            kind.together = max(kind.together, len(inputs["context"]) - 1)
            raise EngineError("not a number at /secret/conv.cu:3")
        return super().run(inputs)


def test_a_poisoned_row_fails_alone(bundle: Bundle) -> None:
    """15. A request whose inputs break the engine fails; those that shared its runs are right."""
    steps = {"base": 1, "sr16": 30, "sr32": 2}
    poisoned = CONTEXT.copy()
    poisoned[0, 0] = POISON
    PoisonedEngine.failures = PoisonedEngine.together = 0
    codes: list[str] = []

    def good(caller: Caller, seed: int) -> Array:
        call = caller.generate(from_context(bundle, CONTEXT, steps, seed))
        return pixels(results_of(call)["sr32"].image)

    def share_runs(address: str, truths: list[Array]) -> None:
        def one(seed: int) -> None:
            with connect(address) as caller:
                if differs(good(caller, seed), truths[seed]):
                    codes.append("pixels")

        threads = [threading.Thread(target=one, args=(seed,)) for seed in range(len(truths))]
        for thread in threads:
            thread.start()
        with connect(address) as caller, pytest.raises(grpc.RpcError) as failed:
            list(caller.generate(from_context(bundle, poisoned, steps, 9)))
        codes.append(details_of(failed.value)[1])
        for thread in threads:
            thread.join()

    with (
        running(bundle, PoisonedEngine, max_batch_rows="4", result_lifetime_s=0) as server,
        connect(server.address) as caller,
    ):
        truths = [good(caller, seed) for seed in range(3)]
        rounds = 0
        while not PoisonedEngine.together and rounds < ROUNDS:
            share_runs(server.address, truths)
            rounds += 1
        wait_until(lambda: server.core.executor.counts.idle)
    assert PoisonedEngine.together > 0
    assert codes == ["ENGINE_ERROR"] * rounds


def from_context(bundle: Bundle, context: Array, steps: dict[str, int], seed: int) -> Any:
    """A request that starts from embeddings."""
    reference = pb.ContextReference(tensor=tensor_message(context))
    return asking(bundle, steps, context=pb.ContextStart(context=reference), prompt=None, seed=seed)


@pytest.mark.parametrize("mates", [2, 4])
def test_company_changes_no_picture(mates: int, shared: Victim, shared_caller: Caller) -> None:
    """31. Alone, among others, joining in mid-flight, beside a cancelled one: the same pixels."""
    pictures: dict[int, Array] = {}

    def ask(seed: int) -> None:
        with connect(shared.address) as caller:
            while seed not in pictures:
                with contextlib.suppress(grpc.RpcError):
                    call = caller.generate(asking(shared.bundle, dict(STEPS), seed=seed))
                    pictures[seed] = pixels(results_of(call)["sr32"].image)

    doomed = shared_caller.generate(asking(shared.bundle, LONG_STEPS), timeout_s=None)
    next(doomed)
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(mates)]
    for thread in threads:
        thread.start()
    wait_until(lambda: shared.gauge("in_flight") > 1 or bool(pictures))
    doomed.cancel()
    for thread in threads:
        thread.join()
    for seed, picture in pictures.items():
        assert not differs(picture, answer(shared.bundle, seed, STEPS)), seed
