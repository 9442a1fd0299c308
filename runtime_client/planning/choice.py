"""Which of some predicted placements and picture formats fits a wish best.

Functions of values. Knows predictions; not how they come about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.errors import InvalidRequest
from runtime_client.planning.cost_model import LOSSLESS, ComponentFacts, Places, PredictedRun
from runtime_client.wish import Objective, Wish

MARGIN = 0.9
"""A predicted time is within a limit up to this share of it: the next request may be slower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenRun:
    """The placement and the format that fit a wish best."""

    run: PredictedRun
    met: bool
    """Whether it is within the limit of time."""


def choose(runs: Sequence[PredictedRun], wish: Wish, lossy: Sequence[str] = ()) -> ChosenRun:
    """The best of some predicted runs; of equal ones the first.

    Of those within the limit of time, the ones with the least loss are compared by the objective:
    no pixel is lost for fewer bytes alone.

    Args:
        runs: at least one; `placements` lists those with more components here first.
        wish: what to optimise. Where nothing is within its limit of time, the fastest is taken.
        lossy: formats with loss that runs have, the one with the least loss first.

    Raises:
        InvalidRequest: there is no run to choose from.
    """
    if not runs:
        raise InvalidRequest(
            "placement: no placement fits: neither side alone nor both together can run every "
            "component as wished",
            field="placement",
        )
    limit_s = wish.within_s
    if limit_s is None:
        return ChosenRun(run=min(runs, key=WishOrder(wish.objective)), met=True)
    in_time = [run for run in runs if run.seconds <= MARGIN * limit_s]
    if not in_time:
        fastest = min(
            runs, key=lambda run: (run.seconds, loss_of(run, lossy), run.bytes, run.calls)
        )
        return ChosenRun(run=fastest, met=False)
    least = min(loss_of(run, lossy) for run in in_time)
    kept = [run for run in in_time if loss_of(run, lossy) == least]
    return ChosenRun(run=min(kept, key=WishOrder(wish.objective)), met=True)


def loss_of(run: PredictedRun, lossy: Sequence[str]) -> int:
    """How much a run's format loses: 0 for nothing, then the place in a list."""
    return (LOSSLESS, *lossy).index(run.format)


@dataclass(frozen=True, slots=True)
class WishOrder:
    """A key for `min`; what is equal in the objective is compared by time, bytes and calls."""

    objective: Objective

    def __call__(self, run: PredictedRun) -> tuple[float, ...]:
        """Of one run."""
        rest = (run.seconds, run.bytes, run.calls)
        if self.objective == "bytes":
            return (run.bytes, *rest)
        return (run.here_s, *rest) if self.objective == "energy" else rest


def allows(wish: Wish, components: Sequence[ComponentFacts], places: Places) -> bool:
    """Whether a placement keeps the words here, if they must stay."""
    if not wish.words_stay_here:
        return True
    return all(here for c, here in zip(components, places, strict=True) if c.takes_words)
