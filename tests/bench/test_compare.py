"""Paired ratios: closed forms, the interval's coverage, and what is not compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.compare import ratio_of
from cascade.commands.cli import main
from cascade.errors import InvalidRequest


def test_a_constant_ratio_has_no_width() -> None:
    """Whatever the requests take: each is its own control."""
    found = ratio_of("latency", [1.0, 5.0, 0.1], [0.5, 2.5, 0.05])
    assert (found.ratio, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.verdict == "faster"


def test_twice_and_half_cancel_out() -> None:
    """The mean is geometric, and the interval holds 1."""
    found = ratio_of("latency", [1.0, 1.0], [2.0, 0.5])
    assert found.ratio == pytest.approx(1.0)
    assert found.low <= 1 <= found.high
    assert found.verdict == "no difference shown"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """95 of 100 for noise of 20 %, within what 40 trials allow."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(40):
        first = rng.lognormal(0, 1, 30)
        second = first * 1.3 * rng.lognormal(0, 0.2, 30)
        found = ratio_of("latency", first.tolist(), second.tolist())
        held += found.low <= 1.3 <= found.high
    assert 34 <= held <= 40


def test_one_pair_is_none() -> None:
    """No interval without two."""
    with pytest.raises(InvalidRequest, match="at least 2"):
        ratio_of("latency", [1.0], [1.0])


def record(seconds: list[float | None], **changes: Any) -> dict[str, Any]:
    """A record of requests that took so long; None failed."""
    return {
        "format": "cascade-bench/1",
        "complete": True,
        "ended_by": "",
        "degraded": False,
        "surroundings": {"processor": "p", "cores": 2},
        "workload": {"sha256": "0", "first_seed": 0},
        "load": {"kind": "single"},
        "phases": {
            "measured": {
                "samples": {
                    "number": list(range(len(seconds))),
                    "due_s": [10.0] * len(seconds),
                    "done_s": [None if s is None else 10 + s for s in seconds],
                    "pictures_s": {"a": [10.1] * len(seconds), "b": [10.2] * len(seconds)},
                }
            }
        },
        **changes,
    }


def compared(
    folder: Path, capsys: pytest.CaptureFixture[str], *records: dict[str, Any]
) -> tuple[int, str]:
    """The exit code of `cascade bench compare`, and what it printed."""
    paths = []
    for number, value in enumerate(records):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(json.dumps(value))
    code = main(["bench", "compare", *map(str, paths)])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_command_pairs_what_both_have_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that failed in one is in neither; a degraded run is said."""
    second = record([2.0, 2.0, 2.0], degraded=True)
    code, said = compared(tmp_path, capsys, record([1.0, None, 1.0]), second)
    assert code == 0
    (line,) = [line for line in said.splitlines() if line.startswith("latency")]
    assert line.split() == ["latency", "2", "2.000", "2.000", "..", "2.000", "slower"]
    assert "caution: the second is degraded" in said


def test_other_pictures_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is what was not measured."""
    other = record([1.0, 1.0], workload={"sha256": "1", "first_seed": 0})
    code, said = compared(tmp_path, capsys, record([1.0, 1.0]), other)
    assert (code, "differ in sha256" in said) == (2, True)
    code, said = compared(tmp_path, capsys, record([1.0, 1.0]), record([], phases={}))
    assert (code, "no measured window" in said) == (2, True)
