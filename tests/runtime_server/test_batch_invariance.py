"""A picture does not depend on who else is being made: to the byte where the engine allows it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.batch_invariance import Case, SharedRows, cases_of, shared_rows
from cascade.bundle.bundle import Bundle
from cascade.request import GenerateRequest
from cascade.tuning.plan import EnginePlan
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.telemetry.server_events import EngineRan, ServerEvent
from tests.support.serving import (
    connect,
    local_results,
    pixels,
    request_message,
    results_of,
    running,
)

ROWS = 8
STEPS = 3
PROMPTS = ("a red apple, noto style", "a cat", "apple", "a green cat, noto style")


@pytest.fixture(scope="module")
def group(bundle: Bundle) -> list[SharedRows]:
    """Every stage of the tiny bundle on ONNX Runtime with rows of prompts of unequal length."""
    return shared_rows(bundle, EnginePlan(threads=1), ROWS, STEPS)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("rows", range(2, ROWS + 1))
def test_a_batch_of_any_size_changes_no_byte(
    group: list[SharedRows], number: int, rows: int
) -> None:
    """From two rows to the most; every run held them all."""
    outcome = group[number].compare(Case(name="together", rows=rows))
    assert outcome.rows_per_run == outcome.most_rows == rows
    assert outcome.largest == 0


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("case", cases_of(4, STEPS), ids=lambda case: case.name)
def test_who_comes_and_goes_changes_no_byte(
    group: list[SharedRows], number: int, case: Case
) -> None:
    """Rows that join in mid-flight, and a neighbour that is cancelled."""
    outcome = group[number].compare(case)
    assert outcome.most_rows >= 2
    assert outcome.largest == 0


def test_the_server_makes_the_same_pictures_together_as_alone(bundle: Bundle) -> None:
    """Through every component, eight requests at once, with runs that were really shared."""
    sizes: list[int] = []

    def note(event: ServerEvent) -> None:
        if isinstance(event, EngineRan):
            sizes.append(len(event.requests))

    with (
        running(bundle, emit=note, max_batch_rows="8") as server,
        connect(server.address) as caller,
        ThreadPoolExecutor(8) as pool,
    ):

        def picture(seed: int) -> np.ndarray:
            request = request_message(
                bundle,
                request_id=f"r{seed}",
                prompt=pb.PromptStart(prompt=PROMPTS[seed % 4]),
                seed=seed,
            )
            return pixels(results_of(caller.generate(request))["sr32"].image)

        found = list(pool.map(picture, range(24)))
    assert max(sizes) > 1
    for seed, image in enumerate(found):
        request = GenerateRequest(prompt=PROMPTS[seed % 4], seed=seed)
        assert np.array_equal(image, local_results(bundle, request)["sr32"].handoff.image)
