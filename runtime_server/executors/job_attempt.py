"""One attempt at a job at one replica, and what is checked and noted beside it.

Values and functions of them; knows neither the queue nor what carries calls.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cascade.errors import CascadeError, PrecisionMismatch, StageError
from cascade.events import StageFinished
from runtime_server.executors.replica_work import ReplicaHandle, ReplicaHello, ReplicaLost
from runtime_server.executors.supervisor import Place

MOST_BEGUN = 2
"""A request that was at work in so many replicas when they were lost may be what ends them."""
MOST_SENT = 4
"""Attempts in all: a replica may have ended before it took what was sent."""


@dataclass(slots=True)
class Losses:
    """Attempts at one job that were lost."""

    begun: int = 0
    sent: int = 0

    def add(self, attempt: "JobAttempt") -> bool:
        """Count one more; whether the job may be begun again."""
        self.begun += attempt.begun
        self.sent += 1
        return self.begun < MOST_BEGUN and self.sent < MOST_SENT


@dataclass(eq=False, kw_only=True, slots=True)
class JobAttempt:
    """One job at one replica."""

    number: int
    place: Place
    handle: ReplicaHandle
    lost: asyncio.Event
    """Of the replica that was in the place when it was sent."""
    begun: bool = False
    """Whether the replica took it."""
    complete: bool = False
    """Whether the last component's result was delivered."""
    told_to_stop: bool = False


async def unless_lost(message: Coroutine[Any, Any, None]) -> None:
    """A message to a replica that may be lost."""
    try:
        await message
    except (CascadeError, ReplicaLost):
        return


def with_wait(finished: StageFinished, waited_s: float) -> StageFinished:
    """A result with the time that its job waited for a replica."""
    seconds = dict(finished.seconds)
    seconds["queue"] = seconds.get("queue", 0.0) + waited_s
    return replace(finished, seconds=seconds)


def check_fits(
    hello: ReplicaHello,
    first: ReplicaHello | None,
    bundle_ids: Iterable[str],
    names: Iterable[str],
) -> None:
    """Refuse a replica that would make other pictures than the others.

    Args:
        hello: of the replica.
        first: of the one that was ready first, None for itself.
        bundle_ids: of the server's bundle.
        names: of the hosted components.

    Raises:
        StageError: it has another bundle.
        PrecisionMismatch: it computes in another precision.
    """
    if hello.bundle_id not in bundle_ids:
        raise StageError(
            f"bundle: the replica on {hello.host} opened {hello.bundle_id}: install the same "
            "folder on every machine"
        )
    if first is None:
        return
    for name in names:
        here, there = first.plan.of(name).precision, hello.plan.of(name).precision
        if here != there:
            raise PrecisionMismatch(
                f"precision: the replica on {hello.host} computes {name} in {there}, the first "
                f"one in {here}: name one with --precision"
            )
