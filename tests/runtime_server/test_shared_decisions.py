"""Requests whose rows shared a run of the heads decide in one call, to the bit as alone."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.lib.lockstep_batcher import LockstepBatcher
from cascade.boundary import Image, value_of
from cascade.bundle.bundle import Bundle
from cascade.errors import Cancelled, StageError
from cascade.events import Event, Preview, Progress, StageFinished
from cascade.families import family_of
from cascade.pixels import drawing
from cascade.pixels.drawing import TOGETHER, Drawing, packed, symbols_of
from cascade.pixels.request_options import PixelOptions
from cascade.pixels.spec import HEADS, PASS, PixelSpec
from cascade.request import GenerateRequest, Handoff
from cascade.stage import EngineStage
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from cascade.types import Array
from runtime_server.batching.graph_axes import axes_of
from runtime_server.batching.shared_run import RowResult, work_together
from tests.support.pixel_bundle import write_pixel_bundle

ROWS, LATE, STOPPED = 8, 3, 5
SHARPER = PixelOptions(temperature_16=8, floor_16=1)
Stages = Sequence[tuple[PixelSpec, EngineStage]]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """A guided first stage, one that keeps corners, one that keeps means."""
    bundle: Bundle = write_pixel_bundle(tmp_path_factory.mktemp("pixels") / "bundle")
    opened = open_stages(bundle, range(1, 4), EnginePlan(threads=1))
    yield list(zip(cast(Any, bundle.manifest.components[1:]), opened, strict=True))
    for stage in opened:
        stage.close()


class Request:
    """One request inside one component, and what its caller sees of it."""

    def __init__(self, spec: PixelSpec, row: int, options: PixelOptions) -> None:
        self.asked = GenerateRequest(seed=row, options={spec.name: options}, preview_every=1)
        self.start: Handoff = family_of(spec).dummy_run.start(spec, tokens=8)
        low = value_of(Image, spec.starts_from)
        if low is not None:
            noise = np.random.default_rng(row).integers(0, 256, low.shape).astype(np.uint8)
            self.start = replace(self.start, image=noise)
        self.seen: list[bytes] = []

    def events(self, stage: EngineStage) -> Iterator[Event]:
        """Its events; the picture after every pass is kept."""
        for event in stage.run(self.asked, self.start):
            if isinstance(event, Preview):
                self.seen.append(event.image.tobytes())
            if isinstance(event, StageFinished):
                self.seen.append(cast(Array, event.handoff.image).tobytes())
            yield event


def alone(spec: PixelSpec, stage: EngineStage, row: int, options: PixelOptions) -> list[bytes]:
    """What a request sees that nobody else is beside."""
    request = Request(spec, row, options)
    list(request.events(stage))
    return request.seen


def beside_others(
    spec: PixelSpec, stage: EngineStage, options: Mapping[int, PixelOptions]
) -> tuple[list[Request], dict[int, Exception | None]]:
    """Eight requests that share every run: one comes a pass late, one is stopped after a pass."""
    axes = {role: axes_of(graph) for role, graph in spec.graphs.items()}
    lockstep, late = LockstepBatcher(stage.engines, 4 * ROWS, axes), threading.Event()
    runs = {PASS: spec.scheme.passes, HEADS: spec.scheme.head_runs}
    requests = [Request(spec, row, options.get(row, PixelOptions())) for row in range(ROWS)]

    def make(row: int) -> None:
        if row == LATE:
            assert late.wait(60)
        try:
            with closing(lockstep.row(row, runs)) as batched:
                for event in requests[row].events(stage.with_engines(batched.engines)):
                    if isinstance(event, Progress) and event.done == 1 and row == 0:
                        lockstep.add(1)
                        late.set()
                    if isinstance(event, Progress) and row == STOPPED:
                        lockstep.batcher.cancel(batched, Cancelled("enough"))
        finally:
            lockstep.add(-1)

    with ThreadPoolExecutor(ROWS) as pool:
        futures = [pool.submit(make, row) for row in range(ROWS)]
        lockstep.begin(ROWS - 1)
    lockstep.end()
    return requests, {row: cast(Any, f.exception()) for row, f in enumerate(futures)}


@pytest.mark.parametrize("number", range(3), ids=["guided", "corners", "means"])
@pytest.mark.parametrize(
    "options", [{}, dict.fromkeys(range(0, ROWS, 2), SHARPER)], ids=["alike", "two temperatures"]
)
def test_every_decision_is_the_same_alone_and_beside_seven_others(
    stages: Stages,
    number: int,
    options: Mapping[int, PixelOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At different passes too; a neighbour's end leaves no trace, and calls were really shared."""
    calls: list[int] = []

    def counted(works: Sequence[Drawing], *more: Any) -> list[Array]:
        calls.append(len(works))
        return symbols_of(works, *more)

    monkeypatch.setattr(drawing, "symbols_of", counted)
    spec, stage = stages[number]
    requests, errors = beside_others(spec, stage, options)
    for row, request in enumerate(requests):
        true = alone(spec, stage, row, options.get(row, PixelOptions()))
        if row == STOPPED:
            assert isinstance(errors[row], Cancelled)
            assert request.seen == true[: len(request.seen)]
            continue
        assert errors[row] is None
        assert request.seen == true
    assert max(calls) >= 3


@dataclass
class Sum:
    """Work that adds up its row; refuses every call with a negative number in it."""

    key: str = "sum"
    calls: list[int] = field(default_factory=list)

    def together(
        self, works: Sequence["Sum"], outputs: Mapping[str, Array], begins: Sequence[int]
    ) -> list[Array | None]:
        """See `HostWork`."""
        self.calls.append(len(works))
        rows = outputs["y"][list(begins)]
        if rows.min() < 0:
            raise StageError("a negative number")
        return list(rows.sum(axis=1))


@dataclass
class Share:
    """A row's share of a run."""

    work: Sum | None
    is_cancelled: bool = False
    inputs: Mapping[str, Array] = field(default_factory=dict)


def shared(parts: Sequence[Share], outputs: Array) -> list[Array | None]:
    """What the work of each part came to, of one run with a row `[n]` for each."""
    whole = {"y": outputs}
    results = [RowResult(whole, whole=whole, begin=at) for at in range(len(parts))]
    return [result.found for result in work_together(parts, results)]


def test_work_of_one_key_is_one_call_and_other_work_is_left_to_its_row() -> None:
    """Other keys, none at all, and who is cancelled stay out; a run of one part is its own."""
    every = np.arange(10.0).reshape(5, 2)
    first, gone = Sum(), Share(Sum(), is_cancelled=True)
    parts = [Share(first), Share(Sum("other")), Share(None), gone, Share(Sum())]
    assert shared(parts, every) == [1.0, None, None, None, 17.0]
    assert first.calls == [2]
    assert shared([Share(Sum())], every[1:2]) == [None]


def test_a_call_that_fails_is_left_to_the_rows_whose_fault_it_is() -> None:
    """None of them is given an error that may be another's."""
    assert shared([Share(Sum()), Share(Sum())], np.array([[1.0, 2.0], [3.0, -1.0]])) == [None] * 2


def test_only_as_many_values_are_drawn_in_one_call_as_pay() -> None:
    """Small pictures share, a large one is left to its own thread."""
    assert list(packed([256] * 9)) == [[*range(8)], [8]]
    assert list(packed([256, TOGETHER + 1, 256])) == [[0, 2]]
    assert list(packed([TOGETHER + 1])) == []
