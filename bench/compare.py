"""Two records against each other: paired ratios with a confidence interval.

Requests of one number asked for the same picture, so each is its own control: the ratio of a pair
leaves out what makes some requests longer than others. The mean of ratios is geometric (twice as
fast and half as fast cancel out), its interval a bootstrap over pairs with a fixed seed. Knows
records.

References:
    B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 13.3 (percentile intervals).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.errors import InvalidRequest

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 0
CHUNK = 1 << 20
"""Numbers drawn at once."""
LEAST_PAIRS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedRatio:
    """How many times as long the second takes; below 1 it is faster."""

    measure: str
    pairs: int
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.high < 1:
            return "faster"
        return "slower" if self.low > 1 else "no difference shown"


def ratio_of(measure: str, first: Sequence[float], second: Sequence[float]) -> PairedRatio:
    """The geometric mean of second over first, pair by pair.

    Args:
        measure: its name.
        first: seconds, above 0.
        second: of the same requests.

    Raises:
        InvalidRequest: there are fewer than two pairs.
    """
    count = len(first)
    if count < LEAST_PAIRS:
        raise InvalidRequest(
            f"record: {measure}: {count} requests were finished in both, at least "
            f"{LEAST_PAIRS} are needed",
            field="record",
        )
    logs = np.log(np.asarray(second, np.float64) / np.asarray(first, np.float64))
    rng = np.random.Generator(np.random.PCG64(SEED))
    means: list[float] = []
    while len(means) < RESAMPLES:
        rows = min(RESAMPLES - len(means), max(1, CHUNK // count))
        means += logs[rng.integers(0, count, (rows, count))].mean(axis=1).tolist()
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return PairedRatio(
        measure=measure,
        pairs=count,
        ratio=math.exp(float(logs.mean())),
        low=math.exp(float(low)),
        high=math.exp(float(high)),
    )


def pairs_of(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds by measure of the requests that were finished in both records.

    Raises:
        InvalidRequest: they asked for other pictures, or one has no measured window.
    """
    for name in ("sha256", "first_seed"):
        if first["workload"][name] != second["workload"][name]:
            raise InvalidRequest(
                f"record: the workloads differ in {name}: pairs would be of other pictures",
                field="record",
            )
    return paired(*(measured_of(record) for record in (first, second)))


def measured_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's measured window.

    Raises:
        InvalidRequest: it has none.
    """
    measured: Mapping[str, Any] | None = record["phases"].get("measured")
    if measured is None:
        raise InvalidRequest("record: it has no measured window", field="record")
    return measured


def paired(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds by measure of the requests that were finished in both windows."""
    sides = [by_number(measured["samples"]) for measured in (first, second)]
    shared = [number for number in sides[0] if number in sides[1]]
    measures = ("first picture", "last picture", "latency")
    found: dict[str, tuple[list[float], list[float]]] = {m: ([], []) for m in measures}
    for number in shared:
        for measure in measures:
            for values, side in zip(found[measure], sides, strict=True):
                values.append(side[number][measure])
    return found


def by_number(samples: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Seconds by measure of each finished request.

    Args:
        samples: of a window, by column.
    """
    found = {}
    for at, number in enumerate(samples["number"]):
        due, done = samples["due_s"][at], samples["done_s"][at]
        pictures = [times[at] for times in samples["pictures_s"].values() if times[at] is not None]
        if done is not None and pictures:
            found[number] = {
                "first picture": min(pictures) - due,
                "last picture": max(pictures) - due,
                "latency": done - due,
            }
    return found


def cautions(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What keeps two records from being compared without a second thought."""
    found = []
    for name, record in (("first", first), ("second", second)):
        if not record["complete"]:
            found.append(f"the {name} is incomplete: {record['ended_by']}")
        if record["degraded"]:
            found.append(f"the {name} is degraded: its generator was late")
    there = second["surroundings"]
    found += [
        f"another {name}"
        for name in ("processor", "cores")
        if first["surroundings"][name] != there[name]
    ]
    if first["load"] != second["load"]:
        found.append("another load")
    return found


def as_text(ratios: Sequence[PairedRatio], warnings: Sequence[str]) -> str:
    """A line per measure, then what to keep in mind."""
    lines = [f"{'second / first':16}{'pairs':>6}{'ratio':>8}{'95 % interval':>18}"]
    for r in ratios:
        interval = f"{r.low:.3f} .. {r.high:.3f}"
        lines.append(f"{r.measure:16}{r.pairs:>6}{r.ratio:>8.3f}{interval:>18}  {r.verdict}")
    return "\n".join([*lines, *(f"caution: {warning}" for warning in warnings)])
