"""Schedules of open loops: their closed forms, their seeds, their files."""

from pathlib import Path

import numpy as np
import pytest

from bench.arrivals import Arrivals, digest, schedule
from cascade.errors import InvalidRequest


def test_constant_arrivals_are_a_grid() -> None:
    """Every 0.25 s at 4 per second."""
    due = schedule(Arrivals(kind="constant", rate_per_s=4), 4)
    assert due.tolist() == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("kind", "shape", "variation"), [("poisson", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4, 0.5)]
)
def test_random_arrivals_have_their_rate_and_their_burstiness(
    kind: str, shape: float, variation: float
) -> None:
    """The coefficient of variation of the gaps is 1 / sqrt(shape); Poisson's is 1."""
    arrivals = Arrivals(kind=kind, rate_per_s=5, shape=shape, seed=1)  # type: ignore[arg-type]
    gaps = np.diff(schedule(arrivals, 20_000), prepend=0.0)
    assert gaps.mean() == pytest.approx(0.2, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.05)


def test_a_seed_is_a_schedule() -> None:
    """The same again, another one for another seed; a longer one begins with the shorter one."""
    one, other = Arrivals(seed=1), Arrivals(seed=2)
    assert digest(schedule(one, 50)) == digest(schedule(one, 50)) != digest(schedule(other, 50))
    np.testing.assert_array_equal(schedule(one, 80)[:50], schedule(one, 50))


def test_a_trace_is_taken_as_it_is(tmp_path: Path) -> None:
    """Comments and empty lines left out, cut to the requests asked for."""
    path = tmp_path / "trace.txt"
    path.write_text("# seconds\n0\n\n0.5  # a burst\n0.5\n7\n")
    assert schedule(Arrivals(kind="trace", trace=path), 9).tolist() == [0, 0.5, 0.5, 7]
    assert schedule(Arrivals(kind="trace", trace=path), 2).tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("text", "words"), [("1\n0.5\n", "line 2"), ("soon\n", "line 1"), ("#\n", "holds no times")]
)
def test_a_trace_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """With the line at fault."""
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=words) as caught:
        schedule(Arrivals(kind="trace", trace=path), 9)
    assert caught.value.field == "trace"


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"kind": "uniform"}, "arrivals"),
        ({"rate_per_s": 0.0}, "rate"),
        ({"rate_per_s": float("nan")}, "rate"),
        ({"shape": 0.0}, "shape"),
        ({"kind": "trace"}, "trace"),
        ({"trace": Path("x")}, "trace"),
    ],
)
def test_wrong_choices_name_their_field(choices: dict[str, object], field: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest) as caught:
        Arrivals(**choices)  # type: ignore[arg-type]
    assert caught.value.field == field
