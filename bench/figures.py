"""From attempts to figures: percentiles, hops, goodput, send lag, bytes.

Pure; knows no system and no clock.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from bench.attempt import Attempt
from bench.quantiles import PERCENTILES, percentile

DEGRADED_LAG_S = 0.050
"""Send lag at p99 beyond which the generator, not the system, was measured."""


def distribution(samples: Iterable[float]) -> dict[str, Any]:
    """Count, mean, extremes and percentiles; what never came is infinity and counts.

    Args:
        samples: seconds.
    """
    ordered = sorted(samples)
    known = [s for s in ordered if math.isfinite(s)]
    return {
        "count": len(ordered),
        "failed": len(ordered) - len(known),
        "mean": statistics.fmean(known) if known else None,
        "min": known[0] if known else None,
        "max": known[-1] if known else None,
        "median": statistics.median(known) if known else None,
        **{f"p{p}": asdict(percentile(ordered, p)) for p in PERCENTILES},
    }


def latencies(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Time to the first, second and last picture, their gaps, and to the end.

    Args:
        attempts: of one window.
    """

    def to_picture(position: int) -> Callable[[Attempt], float]:
        def seconds(attempt: Attempt) -> float:
            found = attempt.picture_latency_s(position)
            return math.inf if found is None else found

        return seconds

    most = max((len(a.pictures_s) for a in attempts), default=0)
    measures: dict[str, Callable[[Attempt], float]] = {"time_to_first_picture_s": to_picture(0)}
    if most > 1:
        measures["time_to_second_picture_s"] = to_picture(1)
    measures["time_to_last_picture_s"] = lambda a: math.inf if a.error else to_picture(-1)(a)
    measures["latency_s"] = lambda a: a.latency_s
    found = {name: distribution(map(measure, attempts)) for name, measure in measures.items()}
    gaps = [
        later - earlier
        for attempt in attempts
        for earlier, later in zip(
            list(attempt.pictures_s.values())[:-1],
            list(attempt.pictures_s.values())[1:],
            strict=True,
        )
    ]
    return {**found, "picture_gap_s": distribution(gaps)}


def hops_of_all(attempts: Sequence[Attempt]) -> dict[str, dict[str, float]]:
    """Mean and median of every hop, in the order of the work, over what was finished.

    Means add up to the mean of what a request took; medians do not.
    """
    done = [a for a in attempts if a.done_s is not None]
    names = list(dict.fromkeys(name for a in done for name in a.hops if name != "residual"))
    if done:
        names.append("residual")
    return {
        name: {
            "mean_s": statistics.fmean(a.hops.get(name, 0.0) for a in done),
            "median_s": statistics.median(a.hops.get(name, 0.0) for a in done),
        }
        for name in names
    }


def goodput(attempts: Sequence[Attempt], seconds: float, objective_s: float) -> dict[str, Any]:
    """What was finished within an objective.

    Args:
        attempts: of one window.
        seconds: its length.
        objective_s: longest latency that counts, from when a request was due.
    """
    within = sum(a.latency_s <= objective_s for a in attempts)
    return {
        "objective_s": objective_s,
        "within": within,
        "attainment": within / len(attempts) if attempts else None,
        "goodput_per_s": within / seconds if seconds else None,
    }


def send_lag(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """How late requests were sent; `degraded` where the 99th of 100 was later than 50 ms."""
    lags = sorted(a.send_lag_s for a in attempts)
    p99 = lags[-(-99 * len(lags) // 100) - 1] if lags else 0.0
    return {
        "p50_s": lags[(len(lags) - 1) // 2] if lags else 0.0,
        "p99_s": p99,
        "max_s": lags[-1] if lags else 0.0,
        "limit_s": DEGRADED_LAG_S,
        "degraded": p99 > DEGRADED_LAG_S,
    }


def traffic(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Bytes each way of finished requests, mean and median, without the framing of HTTP/2."""
    done = [a for a in attempts if a.done_s is not None]
    return {
        way: {
            "mean": statistics.fmean(sizes) if sizes else None,
            "median": statistics.median(sizes) if sizes else None,
        }
        for way, sizes in (
            ("bytes_up", [a.bytes_up for a in done]),
            ("bytes_down", [a.bytes_down for a in done]),
        )
    }


def errors_of(attempts: Sequence[Attempt]) -> dict[str, int]:
    """How often each reason ended a request."""
    reasons = [a.error for a in attempts if a.error]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def window_figures(
    attempts: Sequence[Attempt], seconds: float, objective_s: float | None
) -> dict[str, Any]:
    """Everything about one window.

    Args:
        attempts: in any order.
        seconds: its length.
        objective_s: for goodput; None leaves it out.
    """
    done = sum(a.done_s is not None for a in attempts)
    return {
        "seconds": seconds,
        "sent": len(attempts),
        "finished": done,
        "errors": errors_of(attempts),
        "throughput_per_s": done / seconds if seconds else None,
        **latencies(attempts),
        "hops": hops_of_all(attempts),
        "goodput": None if objective_s is None else goodput(attempts, seconds, objective_s),
        "send_lag": send_lag(attempts),
        "traffic": traffic(attempts),
    }
