"""How much may be inside at once: bytes of all requests together, and requests of one caller.

What a request holds is counted before it is admitted and given back when it has left. Knows numbers
and names; neither queues nor sockets.
"""

from collections import Counter
from collections.abc import Sequence

from cascade.boundary import Context, Image, Tensor
from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest, ServerBusy
from cascade.families import cost_of
from runtime_server.admission.checks import RequestPlan
from runtime_server.config.config import ServerConfig
from runtime_server.telemetry.server_events import Emit, RequestRefused

SHORTEST_RETRY_S = 0.1
"""Nobody is told to come back sooner, however soon there may be room."""


class InFlightLimits:
    """What is inside, within its limits; used from one thread, its size from any."""

    def __init__(self, *, max_bytes: int, max_per_identity: int, emit: Emit) -> None:
        """Nothing inside.

        Args:
            max_bytes: of all requests inside.
            max_per_identity: requests of one caller.
            emit: where refusals are told.
        """
        self._max_bytes = max_bytes
        self._max_per_identity = max_per_identity
        self._emit = emit
        self._requests: Counter[str] = Counter()
        self.size_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is inside, of nobody."""
        return not (self.size_bytes or self._requests)

    def count(self, identity: str) -> int:
        """Requests of one caller that are inside."""
        return self._requests[identity]

    def acquire(self, identity: str, size_bytes: int, retry_after_s: float) -> None:
        """Count a request in.

        Args:
            identity: whose it is.
            size_bytes: what it holds while it is inside.
            retry_after_s: when somebody is likely to have left.

        Raises:
            ServerBusy: it does not fit now.
            InvalidRequest: it never will.
        """
        delay_s = max(SHORTEST_RETRY_S, retry_after_s)
        if size_bytes > self._max_bytes:
            self._emit(RequestRefused("bytes"))
            raise InvalidRequest(
                f"image: this request holds {size_bytes} bytes, {self._max_bytes} are allowed for "
                "all together (max_in_flight_bytes): send a smaller picture, or allow more",
                field="image",
            )
        if self._requests[identity] >= self._max_per_identity:
            self._emit(RequestRefused("identity"))
            raise ServerBusy(
                f"{self._requests[identity]} requests of this caller are inside, no more at once: "
                "wait for one to end, or cancel one",
                retry_after_s=delay_s,
            )
        if self.size_bytes + size_bytes > self._max_bytes:
            self._emit(RequestRefused("bytes"))
            raise ServerBusy(
                f"the requests inside hold {self.size_bytes} bytes, {size_bytes} more do not fit",
                retry_after_s=delay_s,
            )
        self._requests[identity] += 1
        self.size_bytes += size_bytes

    def release(self, identity: str, size_bytes: int) -> None:
        """Count a request out."""
        self._requests[identity] -= 1
        self._drop_zero(identity)
        self.size_bytes -= size_bytes

    def _drop_zero(self, identity: str) -> None:
        """A caller without requests is no entry, however many callers there have been."""
        if not self._requests[identity]:
            del self._requests[identity]


def held_bytes(plan: RequestPlan) -> int:
    """What a request holds while it is inside: what it starts from, and every result to come.

    Of a caller's own picture also what its largest stage works on.

    Args:
        plan: the request.
    """
    start = sum(
        array.nbytes
        for array in (
            plan.start.context,
            plan.start.image,
            plan.start.tensor,
            plan.request.negative_context,
        )
        if array is not None
    )
    start += sum(edit.size_bytes for edit in plan.request.edits.values())
    working = max((cost.working_bytes for cost in plan.costs.values()), default=0)
    return start + working + sum(cost.result_bytes for cost in plan.costs.values())


def check_bytes_suffice(manifest: Manifest, config: ServerConfig, hosted: Sequence[int]) -> None:
    """Refuse budgets of bytes in which not even one request of the bundle fits.

    Raises:
        InvalidRequest: naming the setting and the least it must be.
    """
    sizes = [cost_of(spec).result_bytes for spec in manifest.components]
    runs = contiguous(hosted)
    results = max(sum(sizes[at] for at in run) for run in runs)
    held = max(start_bytes(manifest, sizes, run[0]) + sum(sizes[at] for at in run) for run in runs)
    if config.max_in_flight_bytes < held:
        raise InvalidRequest(
            f"max_in_flight_bytes: one request of {manifest.name} holds up to {held} "
            f"bytes, {config.max_in_flight_bytes} are allowed for all: allow more",
            field="max_in_flight_bytes",
        )
    if 0 < config.result_store_bytes < results:
        raise InvalidRequest(
            f"result_store_bytes: the results of one request of {manifest.name} take up to "
            f"{results} bytes, {config.result_store_bytes} are kept: allow more, or 0 to keep none",
            field="result_store_bytes",
        )


def start_bytes(manifest: Manifest, sizes: Sequence[int], first: int) -> int:
    """Bytes that a request brings which begins with the component at a position.

    Args:
        manifest: of the bundle.
        sizes: of the components' results, by position.
        first: where the request begins.
    """
    # The context comes with the request, or is a result; so is what is before the first stage: a
    # picture or a latent.
    before = manifest.components[:first]
    contexts = [at for at, spec in enumerate(before) if isinstance(spec.makes, Context)]
    images = [at for at, spec in enumerate(before) if isinstance(spec.makes, Image | Tensor)]
    return sum(sizes[at] for at in (*contexts[-1:], *images[-1:]))


def contiguous(positions: Sequence[int]) -> list[list[int]]:
    """Rising positions in runs without a gap: no request goes on across one."""
    runs: list[list[int]] = []
    for at in positions:
        if runs and at == runs[-1][-1] + 1:
            runs[-1].append(at)
        else:
            runs.append([at])
    return runs
