"""How much one caller may have made per minute: a token bucket of megapixels.

Every step of a stage costs its picture's pixels: a thousand steps cost a thousand times one. A
request passes when the bucket holds what it costs, or is full; a large one makes its level
negative. The decisions are functions of values and a passed-in clock. Knows names and numbers; no
request.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cascade.cost import Cost
from cascade.errors import QuotaExceeded
from runtime_server.system.clock import Clock
from runtime_server.telemetry.server_events import Emit, RequestRefused

MAX_IDENTITIES = 100_000
"""Buckets that are not full. Beyond it, callers with the fullest ones begin anew."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one caller has left."""

    level: float
    """Megapixels; negative is a debt."""
    at: float
    """When that was so, on the clock."""


def filled(bucket: Bucket, per_minute: float, now: float) -> Bucket:
    """The bucket as it is now; it holds one minute's worth at most."""
    level = bucket.level + (now - bucket.at) * per_minute / 60
    return Bucket(min(level, per_minute), now)


def wait_for(bucket: Bucket, per_minute: float, cost: float) -> float:
    """Seconds until a cost passes; 0 when it does now.

    Args:
        bucket: as it is now.
        per_minute: what it gains in a minute, and holds at most.
        cost: in megapixels.
    """
    # A request larger than a minute's worth passes a full bucket, whose level is then negative.
    missing = min(cost, per_minute) - bucket.level
    return max(0.0, 60 * missing / per_minute)


class Quota:
    """The buckets of all callers; safe to use from several threads."""

    def __init__(self, per_minute: float, clock: Clock, emit: Emit) -> None:
        """Every bucket is full.

        Args:
            per_minute: megapixels a minute of one caller; 0 is no limit.
            clock: monotonic seconds.
            emit: where refusals are told.
        """
        self._per_minute = per_minute
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}

    @property
    def count(self) -> int:
        """Callers whose bucket is not full, as of the last use of each."""
        return len(self._buckets)

    @contextmanager
    def spending(self, identity: str, megapixels: float) -> Iterator[None]:
        """Take the cost of a request, and give it back when the block fails.

        Raises:
            QuotaExceeded: as `spend` does.
        """
        self.spend(identity, megapixels)
        try:
            yield
        except BaseException:
            self.give_back(identity, megapixels)
            raise

    def spend(self, identity: str, megapixels: float) -> None:
        """Take what a request costs from its caller's bucket.

        Raises:
            QuotaExceeded: it holds too little; nothing was taken.
        """
        if not self._per_minute:
            return
        with self._lock:
            now = self._clock()
            bucket = self._bucket(identity, now)
            wait_s = wait_for(bucket, self._per_minute, megapixels)
            if wait_s > 0:
                # Under the lock, which no listener takes.
                self._emit(RequestRefused("quota"))
                raise QuotaExceeded(
                    f"{self._per_minute:g} megapixels of steps a minute are each caller's, this "
                    f"request needs {megapixels:.3g} of them: it passes in {wait_s:.1f} s",
                    retry_after_s=wait_s,
                )
            self._keep(identity, Bucket(bucket.level - megapixels, now))

    def give_back(self, identity: str, megapixels: float) -> None:
        """Put back what was taken for a request that was then refused."""
        if not self._per_minute:
            return
        with self._lock:
            now = self._clock()
            level = self._bucket(identity, now).level + megapixels
            self._keep(identity, Bucket(min(level, self._per_minute), now))

    def _bucket(self, identity: str, now: float) -> Bucket:
        """A caller's bucket as it is now."""
        known = self._buckets.get(identity)
        full = Bucket(self._per_minute, now)
        return full if known is None else filled(known, self._per_minute, now)

    def _keep(self, identity: str, bucket: Bucket) -> None:
        """Remember a bucket, and forget those that have become full: they need no memory."""
        self._buckets[identity] = bucket
        # Names may come from tokens that anybody signs: memory must stay bounded.
        if len(self._buckets) <= MAX_IDENTITIES:
            return
        fresh = {name: filled(b, self._per_minute, bucket.at) for name, b in self._buckets.items()}
        kept = {name: b for name, b in fresh.items() if b.level < self._per_minute}
        emptiest = sorted(kept, key=lambda name: kept[name].level)[: MAX_IDENTITIES // 2]
        self._buckets = {name: kept[name] for name in emptiest}


def megapixels_of(costs: Iterable[Cost]) -> float:
    """What a request costs: the pixels of every unit of every component, in millions.

    Args:
        costs: of the components that run.
    """
    return sum(cost.pixels for cost in costs) / 1e6
