"""Measuring at start whether rows should share runs, with engines on a clock of their own."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engine import Engine
from cascade.errors import InvalidRequest
from cascade.types import Array
from runtime_server.batching.batch_calibration import (
    ENOUGH_S,
    MOST_ROWS,
    BatchCalibration,
    max_invariant_rows,
    measure_rows,
    row_caps,
)
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.batcher import DeviceBatcher, HostedEngine, Row
from runtime_server.batching.role_key import RoleKey
from runtime_server.system.clock import Clock
from tests.support.manifests import stages_of
from tests.support.serving import wait_until


class Timed:
    """An engine that takes `fixed + rows * each` seconds of its own clock; the first run longer."""

    def __init__(self, fixed: float, each: float) -> None:
        self.now = 0.0
        self.sizes: list[int] = []
        self._fixed, self._each = fixed, each
        self.gate: threading.Event | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every size is slow at its first run."""
        rows = len(next(iter(inputs.values())))
        if self.gate is not None:
            self.gate.wait(10)
        self.now += self._fixed + rows * self._each + (rows not in self.sizes)
        self.sizes.append(rows)
        return {"prediction": np.zeros((rows, 1), np.float32)}

    def terminate(self) -> None:
        """Let go."""
        if self.gate is not None:
            self.gate.set()

    def close(self) -> None:
        """Nothing."""


def test_sizes_are_tried_as_long_as_they_pay(bundle: Bundle) -> None:
    """All where a run costs the same whatever is in it; two where it does not help."""
    spec = stages_of(bundle.manifest)[0]
    gains = Timed(0.01, 0.0001)
    found = measure_rows(spec, gains, lambda: gains.now)
    assert list(found) == [1, 2, 4, MOST_ROWS]
    assert found[4] == pytest.approx(0.0104)
    gains_not = Timed(0.0, 0.01)
    assert list(measure_rows(spec, gains_not, lambda: gains_not.now)) == [1, 2]


def test_long_steps_are_not_repeated_often(bundle: Bundle) -> None:
    """Once to get ready and once to measure, where one run takes longer than is enough."""
    engine = Timed(0.0, 1.1 * ENOUGH_S)
    measure_rows(stages_of(bundle.manifest)[2], engine, lambda: engine.now)
    assert engine.sizes == [1, 1, 2, 2]


def test_caps_by_name(bundle: Bundle) -> None:
    """For hosted components; a name that the bundle does not have is refused."""
    assert row_caps("auto", bundle.manifest, (2, 3)) == {2: None, 3: None}
    assert row_caps("4,sr32=auto,base=2", bundle.manifest, (1, 2, 3)) == {1: 2, 2: 4, 3: None}
    with pytest.raises(InvalidRequest, match="no component 'sr64'"):
        row_caps("sr64=2", bundle.manifest, (0, 1, 2, 3))


def batcher_of(
    engines: Mapping[int, Engine], clock: Clock, make: type[DeviceBatcher] = DeviceBatcher
) -> DeviceBatcher:
    """A device with these engines, one for each component."""
    return make(
        {
            RoleKey(position): HostedEngine(engine=engine, stage=str(position))
            for position, engine in engines.items()
        },
        {RoleKey(position): BatchLimits(max_rows=1, max_bytes=10**9) for position in engines},
        clock=clock,
    )


def caps_of(batcher: DeviceBatcher, *positions: int) -> list[int]:
    """Rows that may share a run."""
    return [batcher.limits.max_rows(position) for position in positions]


def test_components_are_measured_beside_unless_their_cap_is_set(bundle: Bundle) -> None:
    """One after the other in the background; until then rows run one by one."""
    engines = {1: Timed(0.01, 0.001), 2: Timed(0.01, 0.001), 3: Timed(0.1, 0.02)}
    clock = lambda: sum(engine.now for engine in engines.values())  # noqa: E731
    batcher = batcher_of(engines, clock)
    caps = {1: None, 2: 3, 3: None}
    trials = BatchCalibration(batcher, bundle.manifest, caps, clock, gives_way_s=60)
    assert not engines[1].sizes
    trials.start()
    wait_until(lambda: caps_of(batcher, 3) == [MOST_ROWS])
    assert caps_of(batcher, 1, 2) == [MOST_ROWS, 1]
    assert not engines[2].sizes
    trials.stop()


class Diary(DeviceBatcher):
    """A device that remembers when its rows are due."""

    dues: tuple[float, ...] = ()

    def open_row(self, position: int, *, priority_deadline: float, **rest: Any) -> Row:
        """Write it down."""
        self.dues += (priority_deadline,)
        return super().open_row(position, priority_deadline=priority_deadline, **rest)


def test_a_trial_gives_way_but_not_for_ever(bundle: Bundle) -> None:
    """It is due so long after it began, so it goes before whoever comes much later."""
    engines = {1: Timed(0.01, 0.001), 3: Timed(0.1, 0.02)}
    clock = lambda: sum(engine.now for engine in engines.values())  # noqa: E731
    diary = batcher_of(engines, clock, Diary)
    engines[3].now = 100.0
    BatchCalibration(diary, bundle.manifest, {1: None, 3: None}, clock, gives_way_s=60).run()
    assert isinstance(diary, Diary)
    assert diary.dues == pytest.approx((160.0, 160.0 + engines[1].now))


def test_a_trial_in_progress_is_ended(bundle: Bundle) -> None:
    """A server that stops does not wait for it."""
    engines = {3: Timed(0.1, 0.1)}
    engines[3].gate = threading.Event()
    clock = lambda: engines[3].now  # noqa: E731
    batcher = batcher_of(engines, clock)
    trials = BatchCalibration(batcher, bundle.manifest, {3: None}, clock, gives_way_s=60)
    trials.start()
    wait_until(lambda: batcher.inside == 1)
    trials.stop()
    assert batcher.inside == 0
    assert caps_of(batcher, 3) == [1]


class Rounding:
    """An engine whose rows differ a little in a shared run, or where they were padded."""

    def __init__(self, *, in_batch: float = 0.0, padded: float = 0.0, shared: int = 2) -> None:
        self._in_batch, self._padded, self._shared = in_batch, padded, shared

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The noisy image, changed."""
        found = np.array(inputs["x_t"])
        if len(found) >= self._shared:
            found += self._in_batch
        found[inputs["context_mask"].min(axis=1) == 0] += self._padded
        return {"prediction": found}

    def terminate(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (Rounding(), (4, 2)),
        (Rounding(in_batch=1e-6, padded=1e-6), (4, 2)),
        (Rounding(padded=0.01), (4, 1)),
        (Rounding(in_batch=0.01), (1, 1)),
        (Rounding(in_batch=0.01, shared=4), (3, 2)),
    ],
)
def test_rows_are_compared_with_themselves_alone(
    bundle: Bundle, engine: Rounding, expected: tuple[int, int]
) -> None:
    """Of equal and of unequal length; the last bits of float32 are no difference."""
    spec = stages_of(bundle.manifest)[1]
    found = tuple(max_invariant_rows(spec, engine, tokens) for tokens in ((8, 8, 8, 8), (8, 5)))
    assert found == expected


class Quick(Rounding):
    """Every run takes the same."""

    now = 0.0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Ten milliseconds."""
        self.now += 0.01
        return super().run(inputs)


def test_an_engine_of_which_shared_changes_the_pictures_runs_rows_one_by_one(
    bundle: Bundle,
) -> None:
    """However much it would gain; and lengths are mixed only where that changes nothing."""
    for engine, cap, pads in (
        (Quick(), MOST_ROWS, True),
        (Quick(padded=0.01), MOST_ROWS, False),
        (Quick(in_batch=0.01), 1, False),
        (Quick(in_batch=0.01, shared=6), 5, True),
    ):
        clock = lambda engine=engine: engine.now  # noqa: E731
        batcher = batcher_of({1: engine}, clock)
        BatchCalibration(batcher, bundle.manifest, {1: None}, clock, gives_way_s=60).run()
        found = batcher.limits.present[RoleKey(1)]
        assert (found.max_rows, found.allows_padding) == (cap, pads)


def test_lengths_that_no_mask_leaves_out_are_never_mixed(bundle: Bundle) -> None:
    """The text encoder's tokens: rows share runs, of equal length only."""

    class Encoder(Quick):
        """Every run takes the same and says nothing."""

        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            """Ten milliseconds."""
            self.now += 0.01
            return {"context": np.zeros((len(inputs["token_ids"]), 1), np.float32)}

    engine = Encoder()
    clock = lambda: engine.now  # noqa: E731
    batcher = batcher_of({0: engine}, clock)
    BatchCalibration(batcher, bundle.manifest, {0: None}, clock, gives_way_s=60).run()
    found = batcher.limits.present[RoleKey(0)]
    assert (found.max_rows, found.allows_padding) == (MOST_ROWS, False)
