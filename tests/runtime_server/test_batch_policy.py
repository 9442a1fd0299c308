"""Who runs together next: the pure decision, its caps, its order and its waiting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import InvalidRequest
from runtime_server.batching.batch_policy import (
    PATIENCE,
    BatchLimits,
    ExpectedRun,
    RunNow,
    RunRequest,
    WaitUntil,
    decide,
    row_cap,
    saving_s,
)
from runtime_server.batching.role_key import RoleKey
from runtime_server.config.row_caps import parse_caps

LIMITS = {
    RoleKey(1): BatchLimits(max_rows=4, max_bytes=1000, run_s=0.1, saving_s=0.04),
    RoleKey(2): BatchLimits(max_rows=1, max_bytes=1000, run_s=0.2),
}


def ask(number: int, due: float = 10.0, position: int = 1, **fields: object) -> RunRequest:
    """An ask of one row since 0, unless said otherwise."""
    values: dict[str, object] = {
        "rows": 1,
        "size_bytes": 100,
        "batch_key": "64",
        "since": 0.0,
        **fields,
    }
    return RunRequest(
        number=number,
        priority_deadline=due,
        key=RoleKey(position),
        **values,  # type: ignore[arg-type]
    )


def expect(position: int, due: float, expected_at: float) -> ExpectedRun:
    """A row between two runs."""
    return ExpectedRun(key=RoleKey(position), priority_deadline=due, expected_at=expected_at)


def numbers(decision: object) -> list[int]:
    """Of the asks that run."""
    assert isinstance(decision, RunNow)
    return [a.number for a in decision.requests]


def choose(
    asks: list[RunRequest], coming: list[ExpectedRun] | None = None, now: float = 0.0
) -> object:
    """The decision of a device that has been free since 0."""
    return decide(asks, coming or [], LIMITS, free_since=0.0, now=now)


def test_nobody_asks_nothing_runs() -> None:
    """Whoever is coming."""
    assert choose([], [expect(position=1, due=1.0, expected_at=0.0)]) is None


def test_the_earliest_due_runs_first_over_all_components() -> None:
    """And takes along its own component's rows only."""
    asks = [ask(1, due=3.0), ask(2, due=1.0, position=2), ask(3, due=2.0)]
    assert numbers(choose(asks)) == [2]
    assert numbers(choose([asks[0], asks[2]])) == [3, 1]


def test_equals_run_in_the_order_of_asking() -> None:
    """Nobody is passed by chance."""
    assert numbers(choose([ask(3), ask(1), ask(2)])) == [1, 2, 3]


@pytest.mark.parametrize(
    ("asks", "expected"),
    [
        ([ask(n) for n in range(1, 7)], [1, 2, 3, 4]),
        ([ask(1, rows=2), ask(2, rows=2), ask(3, rows=2)], [1, 2]),
        ([ask(1), ask(2, rows=2), ask(3, rows=2), ask(4)], [1, 2, 4]),
        ([ask(1, size_bytes=600), ask(2, size_bytes=500), ask(3, size_bytes=400)], [1, 3]),
        ([ask(1, size_bytes=5000), ask(2)], [1]),
        ([ask(1, rows=9), ask(2)], [1]),
        ([ask(1), ask(2, batch_key="128"), ask(3)], [1, 3]),
        ([ask(1, position=2), ask(2, position=2)], [1]),
    ],
)
def test_a_run_keeps_the_caps_and_the_shapes(asks: list[RunRequest], expected: list[int]) -> None:
    """Rows, bytes, kind; what is over a cap by itself runs alone; halves stay together."""
    assert numbers(choose(asks)) == expected


def test_it_waits_for_a_companion_as_long_as_sharing_saves() -> None:
    """From when the run could have begun, and not for who is expected later than that."""
    soon = expect(position=1, due=20.0, expected_at=0.03)
    assert choose([ask(1)], [soon]) == WaitUntil(0.04)
    assert choose([ask(1)], [soon], now=0.039) == WaitUntil(0.04)
    assert numbers(choose([ask(1)], [soon], now=0.04)) == [1]
    late = expect(position=1, due=20.0, expected_at=0.05)
    other = expect(position=2, due=20.0, expected_at=0.0)
    assert numbers(choose([ask(1)], [late, other])) == [1]


def test_nobody_waits_where_sharing_saves_nothing_or_the_run_is_full() -> None:
    """Rows that run one by one never wait for others."""
    soon = expect(position=2, due=20.0, expected_at=0.0)
    assert numbers(choose([ask(1, position=2)], [soon])) == [1]
    soon = expect(position=1, due=20.0, expected_at=0.0)
    assert numbers(choose([ask(n) for n in range(4)], [soon])) == [0, 1, 2, 3]
    assert numbers(choose([ask(1, rows=2), ask(2)], [soon])) == [1, 2]


def test_a_less_urgent_step_is_held_back_for_a_row_that_is_nearly_there() -> None:
    """For a quarter of its length at most."""
    near = expect(position=1, due=1.0, expected_at=0.2 * PATIENCE)
    assert choose([ask(1, position=2)], [near]) == WaitUntil(0.2 * PATIENCE)
    assert numbers(choose([ask(1, position=2)], [near], now=0.2 * PATIENCE)) == [1]
    far = expect(position=1, due=1.0, expected_at=0.1)
    assert numbers(choose([ask(1, position=2)], [far])) == [1]


ASKS = st.lists(
    st.builds(
        ask,
        st.integers(0, 1_000_000),
        due=st.floats(0, 100),
        position=st.sampled_from((1, 2)),
        rows=st.integers(1, 5),
        size_bytes=st.integers(1, 1500),
        batch_key=st.sampled_from(("a", "b")),
        since=st.floats(0, 1),
    ),
    max_size=12,
    unique_by=lambda a: a.number,
)
COMING = st.lists(
    st.builds(
        expect,
        position=st.sampled_from((1, 2)),
        due=st.floats(0, 100),
        expected_at=st.floats(0, 2),
    ),
    max_size=4,
)


@given(ASKS, COMING, st.floats(1, 2))
def test_every_decision_keeps_the_rules(
    asks: list[RunRequest], coming: list[ExpectedRun], now: float
) -> None:
    """The most urgent is in every run, the caps hold, nobody idles without a bound."""
    decision = decide(asks, coming, LIMITS, free_since=1.0, now=now)
    if not asks:
        assert decision is None
        return
    head = min(asks, key=lambda a: (a.priority_deadline, a.number))
    limits = LIMITS[head.key]
    if isinstance(decision, WaitUntil):
        assert coming
        longest = max(limits.saving_s, PATIENCE * limits.run_s)
        assert now < decision.until <= 1.0 + longest
        return
    assert isinstance(decision, RunNow)
    taken = decision.requests
    assert taken[0] == head
    assert {(a.key, a.batch_key) for a in taken} == {(head.key, head.batch_key)}
    if len(taken) > 1:
        assert sum(a.rows for a in taken) <= limits.max_rows
        assert sum(a.size_bytes for a in taken) <= limits.max_bytes
    # The order of asking to a list does not matter.
    assert decide(asks[::-1], coming, LIMITS, free_since=1.0, now=now) == decision


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), min_size=1, max_size=30))
def test_nobody_starves(arrivals: list[tuple[float, bool]]) -> None:
    """However many come later, everybody runs once those who were due before it have."""
    waiting = {n: ask(n, due=due, position=1 + other) for n, (due, other) in enumerate(arrivals)}
    ran: list[float] = []
    while waiting:
        done = numbers(choose(list(waiting.values())))
        ran.append(min(waiting[n].priority_deadline for n in done))
        for n in done:
            del waiting[n]
    assert ran == sorted(ran)


@pytest.mark.parametrize(
    ("step_s", "cap"),
    [
        ({1: 0.1}, 1),
        ({1: 0.1, 2: 0.2}, 1),
        ({1: 0.1, 2: 0.185}, 1),
        ({1: 0.1, 2: 0.17}, 2),
        ({1: 0.1, 2: 0.12, 4: 0.2, 8: 0.4}, 4),
        ({1: 0.1, 2: 0.2, 4: 0.1}, 1),
        ({1: 0.1, 2: 0.11, 4: 0.12, 8: 0.13}, 8),
    ],
)
def test_rows_share_runs_as_far_as_each_doubling_pays(step_s: dict[int, float], cap: int) -> None:
    """A tenth at least."""
    assert row_cap(step_s) == cap


def test_what_sharing_saves_by_hand() -> None:
    """Per further ask; never negative; nothing is known from one size."""
    assert saving_s({}) == saving_s({1: 0.1}) == 0
    assert saving_s({1: 0.1, 2: 0.15}) == pytest.approx(0.05)
    assert saving_s({1: 0.1, 2: 0.15, 4: 0.22}) == pytest.approx(0.06)
    assert saving_s({2: 0.1, 4: 0.16}) == pytest.approx(0.04)
    assert saving_s({1: 0.1, 2: 0.3}) == 0


def test_caps_as_text() -> None:
    """One for all, or by component."""
    assert parse_caps("auto") == {"": None}
    assert parse_caps("4") == {"": 4}
    assert parse_caps("base=8,sr256=auto, 2") == {"base": 8, "sr256": None, "": 2}
    for wrong in ("", "0", "-1", "x", "base=", "=4", "4,5", "1" * 5000):
        with pytest.raises(InvalidRequest, match="max_batch_rows"):
            parse_caps(wrong)
