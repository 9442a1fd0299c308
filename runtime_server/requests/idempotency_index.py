"""Idempotency keys: the requests inside by caller and id, and the results of finished ones.

Decides whether a call is new, joins the request that it duplicates, or is answered from what was
kept. Knows no event loop, no workers and no socket; what runs is anything with a fingerprint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cascade.errors import CascadeError, RequestIdTaken, UnknownRequest
from runtime_server.stores.budgeted_store import BudgetedStore
from runtime_server.system.clock import Clock

ENTRY_BYTES = 1024
"""What an entry costs besides its pictures; so that empty ones are bounded too."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """One caller's name for a request; no caller reaches another's."""

    identity: str
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptResult:
    """What a finished request came to."""

    fingerprint: bytes
    results: tuple[bytes, ...]
    """The message of every component's result, in order."""
    seconds: Mapping[str, float]
    """Per hop on the server."""
    error: CascadeError | None = None
    """How it failed, if it did while nobody listened."""

    @property
    def size_bytes(self) -> int:
        """What it counts in the budget."""
        return ENTRY_BYTES + sum(len(message) for message in self.results)


class Running(Protocol):
    """A request that is inside."""

    @property
    def fingerprint(self) -> bytes:
        """What it means."""
        ...


R = TypeVar("R", bound=Running)


class IdempotencyIndex(Generic[R]):
    """The index; used from one thread, its counts from any."""

    def __init__(
        self, *, budget_bytes: int, lifetime_s: float, clock: Clock, bundle_id: str = ""
    ) -> None:
        """An empty index.

        Args:
            budget_bytes: of all kept results.
            lifetime_s: a result is forgotten so long after its last use.
            clock: monotonic seconds.
            bundle_id: what everything is made with; the indexes of several bundles may share what
                is kept, and none finds another's.
        """
        self.kept: BudgetedStore[KeptResult] = BudgetedStore(
            budget_bytes=budget_bytes, lifetime_s=lifetime_s, clock=clock
        )
        self._bundle_id = bundle_id
        self._running: dict[RequestKey, R] = {}

    @property
    def running(self) -> list[R]:
        """Every request inside."""
        return list(self._running.values())

    def find(self, key: RequestKey, fingerprint: bytes) -> R | KeptResult | None:
        """What a request is to be answered from; None when its work is to be done.

        A failure is not an answer: who asks with the whole request has it tried again.

        Raises:
            RequestIdTaken: the id names other work.
        """
        # Running first: what is kept under that id is of an earlier request.
        found = self._running.get(key) or self.kept.get(key.identity, self._name(key))
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise RequestIdTaken(
                f"request_id: {key.request_id} names another request of yours: give every request "
                "an id of its own, and use it again only for the same content",
                field="request_id",
            )
        return None if isinstance(found, KeptResult) and found.error is not None else found

    def knows(self, key: RequestKey) -> bool:
        """Whether that id names anything, running or kept."""
        return key in self._running or self.kept.get(key.identity, self._name(key)) is not None

    def resume(self, key: RequestKey) -> R | KeptResult:
        """What that id names, whatever it means.

        Raises:
            UnknownRequest: nothing.
        """
        found = self._running.get(key) or self.kept.get(key.identity, self._name(key))
        if found is None:
            raise UnknownRequest(
                f"request_id: {key.request_id} is neither running here nor kept (any more): ask "
                "with the whole request",
                field="request_id",
            )
        return found

    def kept_of(self, key: RequestKey) -> KeptResult:
        """What is kept of a finished request.

        Raises:
            UnknownRequest: nothing; or it is another caller's, which looks the same.
        """
        found = self.kept.get(key.identity, self._name(key))
        if found is None or found.error is not None:
            why = "is not finished yet" if key in self._running else "is not kept here (any more)"
            raise UnknownRequest(
                f"kept.request_id: {key.request_id[:64]} {why}: send the picture itself, or make "
                "it again",
                field="kept.request_id",
            )
        return found

    def begin(self, key: RequestKey, running: R) -> None:
        """Add a request that is inside now."""
        self._running[key] = running
        self.kept.drop(key.identity, self._name(key))

    def end(self, key: RequestKey, running: R, kept: KeptResult | None) -> None:
        """Remove a request that has ended, and keep what it came to."""
        # Cancelled, and its id taken by a later one: the later one stays.
        if self._running.get(key) is not running:
            return
        del self._running[key]
        if kept is not None:
            self.kept.put(key.identity, self._name(key), kept, kept.size_bytes)

    def of(self, key: RequestKey) -> R | None:
        """The request inside under that key."""
        return self._running.get(key)

    def forget(self, key: RequestKey) -> bool:
        """Drop what was kept; returns whether there was anything."""
        return self.kept.drop(key.identity, self._name(key))

    def _name(self, key: RequestKey) -> tuple[str, str]:
        """Under which a caller's result is kept."""
        # Bundles share one store after a reload; a picture of another bundle is no answer.
        return (self._bundle_id, key.request_id)
