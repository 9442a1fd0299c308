"""Figures of attempts, worked out by hand."""

import pytest

from bench.attempt import Attempt
from bench.figures import distribution, goodput, hops_of_all, window_figures


def attempt(number: int, seconds: float | None, due_s: float = 0.0, **fields: object) -> Attempt:
    """One that was sent in time and took so long; None failed after its first picture."""
    done = None if seconds is None else due_s + seconds
    pictures = {"a": due_s + 0.1} if done is None else {"a": due_s + 0.1, "b": done}
    values = {"pictures_s": pictures, "error": "" if done else "SERVER_BUSY", **fields}
    return Attempt(number=number, due_s=due_s, sent_s=due_s, done_s=done, **values)  # type: ignore[arg-type]


def test_times_to_pictures_count_from_when_a_request_was_due() -> None:
    """First, second and last; the failed one is infinitely late, and its first picture is not."""
    found = window_figures([attempt(0, 1.0, 5.0), attempt(1, 3.0, 6.0), attempt(2, None)], 10, 2.0)
    assert found["time_to_first_picture_s"]["median"] == pytest.approx(0.1)
    assert found["time_to_first_picture_s"]["failed"] == 0
    assert found["time_to_last_picture_s"]["median"] == pytest.approx(2.0)
    assert found["time_to_last_picture_s"]["failed"] == 1
    assert found["picture_gap_s"]["max"] == pytest.approx(2.9)
    assert found["errors"] == {"SERVER_BUSY": 1}
    assert (found["sent"], found["finished"], found["throughput_per_s"]) == (3, 2, 0.2)


def test_goodput_counts_what_was_in_time() -> None:
    """One of three within 2 s, in ten seconds."""
    found = goodput([attempt(0, 1.0), attempt(1, 3.0), attempt(2, None)], 10, 2.0)
    assert found["within"] == 1
    assert found["attainment"] == pytest.approx(1 / 3)
    assert found["goodput_per_s"] == pytest.approx(0.1)


def test_means_of_hops_add_up_with_the_residual_last() -> None:
    """A hop that one request lacks counts as nothing; a negative residual is shown."""
    attempts = [
        attempt(0, 1.0, hops={"encode": 0.2, "sr": 0.9, "residual": -0.1}),
        attempt(1, 2.0, hops={"encode": 0.4, "connect": 0.6, "sr": 0.5, "residual": 0.5}),
        attempt(2, None),
    ]
    found = hops_of_all(attempts)
    assert list(found) == ["encode", "sr", "connect", "residual"]
    assert found["connect"]["mean_s"] == pytest.approx(0.3)
    assert sum(hop["mean_s"] for hop in found.values()) == pytest.approx(1.5)


def test_percentiles_below_their_floor_are_not_given() -> None:
    """Eleven samples are enough for the median and for nothing else."""
    found = distribution([float(n) for n in range(1, 12)])
    assert found["p50"] == {"value": 6.0, "upper": 10.0, "floor": 11}
    assert (found["p90"]["value"], found["p90"]["floor"]) == (None, 64)


def test_nothing_has_figures_too() -> None:
    """A window that was interrupted before its first end."""
    found = window_figures([], 0.0, 1.0)
    assert found["throughput_per_s"] is None
    assert found["goodput"]["attainment"] is None
    assert found["hops"] == {}
