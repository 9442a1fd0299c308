"""Requests in each other's company: engines that fail under some, batches that others share."""

import contextlib
import threading
from typing import Any

import grpc
import pytest

from cascade.bundle import Bundle
from cascade.engines.choice import EngineChoice, open_engine
from cascade.errors import EngineError
from cascade.types import Array
from tests.faults.asking import LONG_STEPS, Steps, answer, asking, differs
from tests.faults.leaks import check_silence
from tests.faults.victim import Victim
from tests.serving import (
    Caller,
    connect,
    details_of,
    pixels,
    results_of,
    running,
    wait_until,
)

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


@pytest.mark.parametrize("mates", [2, 4])
def test_company_changes_no_picture(mates: int, slow: Victim, slow_caller: Caller) -> None:
    """31. Alone, among others, joining in mid-flight, beside a cancelled one: the same pixels."""
    pictures: dict[int, Array] = {}

    def ask(seed: int) -> None:
        with connect(slow.address) as caller:
            while seed not in pictures:
                with contextlib.suppress(grpc.RpcError):
                    call = caller.generate(asking(slow.bundle, dict(STEPS), seed=seed))
                    pictures[seed] = pixels(results_of(call)["sr32"].image)

    doomed = slow_caller.generate(asking(slow.bundle, LONG_STEPS), timeout_s=None)
    next(doomed)
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(mates)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(slow.queued().values()) + len(pictures) > 0)
    doomed.cancel()
    for thread in threads:
        thread.join()
    for seed, picture in pictures.items():
        assert not differs(picture, answer(slow.bundle, seed, STEPS)), seed
