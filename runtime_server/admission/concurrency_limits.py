"""How much may be inside at once: bytes of all requests together, and requests of one caller.

What a request holds is counted before it is admitted and given back when it has left. Knows numbers
and names; neither queues nor sockets.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cascade.boundary import Context, Image
from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest, ServerBusy
from cascade.families import cost_of
from runtime_server.admission.checks import Work
from runtime_server.config.config import ServerConfig
from runtime_server.telemetry.observer import Observer

SHORTEST_RETRY_S = 0.1
"""Nobody is told to come back sooner, however soon there may be room."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomLimits:
    """What fits."""

    max_bytes: int
    """Of all requests inside."""
    max_per_identity: int
    """Requests of one caller."""


class Room:
    """What is inside; used from one thread, its counts from any."""

    def __init__(self, limits: RoomLimits, observer: Observer) -> None:
        """An empty room.

        Args:
            limits: what fits.
            observer: is told of every refusal.
        """
        self._limits = limits
        self._observer = observer
        self._of: Counter[str] = Counter()
        self.size_bytes = 0

    @property
    def by_identity(self) -> Mapping[str, int]:
        """Requests inside per caller; callers without any are left out."""
        return dict(self._of)

    def enter(self, identity: str, size_bytes: int, retry_after_s: float) -> None:
        """Count a request in.

        Args:
            identity: whose it is.
            size_bytes: what it holds while it is inside.
            retry_after_s: when somebody is likely to have left.

        Raises:
            ServerBusy: it does not fit now.
        """
        delay_s = max(SHORTEST_RETRY_S, retry_after_s)
        if self._of[identity] >= self._limits.max_per_identity:
            self._observer.refused("identity")
            raise ServerBusy(
                f"{self._of[identity]} requests of this caller are inside, no more at once: wait "
                "for one to end, or cancel one",
                retry_after_s=delay_s,
            )
        if self.size_bytes + size_bytes > self._limits.max_bytes:
            self._observer.refused("bytes")
            raise ServerBusy(
                f"the requests inside hold {self.size_bytes} bytes, {size_bytes} more do not fit",
                retry_after_s=delay_s,
            )
        self._of[identity] += 1
        self.size_bytes += size_bytes

    def leave(self, identity: str, size_bytes: int) -> None:
        """Count a request out."""
        self._of[identity] -= 1
        self._drop_zero(identity)
        self.size_bytes -= size_bytes

    def _drop_zero(self, identity: str) -> None:
        """A caller without requests is no entry, however many callers there have been."""
        if not self._of[identity]:
            del self._of[identity]


def held_bytes(work: Work) -> int:
    """What a request holds while it is inside: what it starts from, and every result to come.

    Args:
        work: the request.
    """
    start = sum(
        array.nbytes for array in (work.start.context, work.start.image) if array is not None
    )
    return start + sum(cost.result_bytes for cost in work.costs.values())


def check_bytes_suffice(manifest: Manifest, config: ServerConfig) -> None:
    """Refuse budgets of bytes in which not even one request of the bundle fits.

    Raises:
        InvalidRequest: naming the setting and the least it must be.
    """
    sizes = [cost_of(spec).result_bytes for spec in manifest.components]
    results = sum(sizes[config.cut :])
    # The context comes with the request, or is a result; so is the picture before the first stage.
    before = manifest.components[: config.cut]
    contexts = [at for at, spec in enumerate(before) if isinstance(spec.makes, Context)]
    images = [at for at, spec in enumerate(before) if isinstance(spec.makes, Image)]
    start = sum(sizes[at] for at in (*contexts[-1:], *images[-1:]))
    if config.max_in_flight_bytes < start + results:
        raise InvalidRequest(
            f"max_in_flight_bytes: one request of {manifest.name} holds up to {start + results} "
            f"bytes, {config.max_in_flight_bytes} are allowed for all: allow more",
            field="max_in_flight_bytes",
        )
    if 0 < config.result_store_bytes < results:
        raise InvalidRequest(
            f"result_store_bytes: the results of one request of {manifest.name} take up to "
            f"{results} bytes, {config.result_store_bytes} are kept: allow more, or 0 to keep none",
            field="result_store_bytes",
        )
