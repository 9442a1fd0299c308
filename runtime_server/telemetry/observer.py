"""What the server tells whoever counts: one method per thing that happens.

The rooms of the server call an observer and never know whether it feeds Prometheus, traces, both or
nobody. Methods return at once and may be called from any thread. Knows names and numbers only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Refusal = Literal[
    "queue_full",
    "bytes",
    "identity",
    "in_flight",
    "deadline",
    "quota",
    "auth",
    "invalid",
    "draining",
]
"""Why a request was turned away before any work was done for it."""

Place = Literal["queue", "running", "delivery"]
"""Where a request was when it was cancelled or its time was over."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a component's work for one request ended that did not succeed."""

    code: str
    """By name; INTERNAL where the component itself is at fault."""
    seconds: float
    """Since it had begun."""


class Observer:
    """Is told what happens; who derives from it and leaves a method out is deaf to that."""

    def call_started(self, method: str) -> None:
        """A call of the wire arrived."""

    def call_handled(self, method: str, code: str, seconds: float) -> None:
        """It ended, with that status code by name."""

    def bytes_moved(self, received: int, sent: int) -> None:
        """Payload of one call, once it has ended."""

    def refused(self, why: Refusal) -> None:
        """A request was turned away."""

    def arriving(self, request_id: str) -> None:
        """A request is about to be taken in or turned away; its own call is the present context."""

    def entered(self, request_id: str) -> None:
        """It was taken in; some of what is done for it may have been told already."""

    def left(self, request_id: str) -> None:
        """Nothing of it is inside any more."""

    def turned_away(self, request_id: str) -> None:
        """It was not taken in after it had arrived; `refused` says why."""

    def waited(self, stage: str, seconds: float) -> None:
        """A request left the queue of one component."""

    def stepped(self, stage: str, request_ids: Sequence[str], begun: float, seconds: float) -> None:
        """The engine ran once for those requests; `begun` is on the monotonic clock."""

    def stage_finished(self, stage: str, request_id: str, begun: float, seconds: float) -> None:
        """One component of one request is done; `begun` is on the monotonic clock."""

    def stage_failed(self, stage: str, request_id: str, begun: float, failure: Failure) -> None:
        """One component of one request began and did not end; `begun` is on the monotonic clock."""

    def stopped(self, where: Place, code: str) -> None:
        """A request ended early: CANCELLED or DEADLINE_EXCEEDED."""

    def reloaded(self, outcome: str) -> None:
        """A reload of the bundle was asked for: `reloaded`, `unchanged` or `refused`."""


class NullObserver(Observer):
    """Tells nobody."""


class CompositeObserver(Observer):
    """Tells several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def call_started(self, method: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.call_started(method)

    def call_handled(self, method: str, code: str, seconds: float) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.call_handled(method, code, seconds)

    def bytes_moved(self, received: int, sent: int) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.bytes_moved(received, sent)

    def refused(self, why: Refusal) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.refused(why)

    def arriving(self, request_id: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.arriving(request_id)

    def entered(self, request_id: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.entered(request_id)

    def turned_away(self, request_id: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.turned_away(request_id)

    def left(self, request_id: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.left(request_id)

    def waited(self, stage: str, seconds: float) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.waited(stage, seconds)

    def stepped(self, stage: str, request_ids: Sequence[str], begun: float, seconds: float) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.stepped(stage, request_ids, begun, seconds)

    def stage_finished(self, stage: str, request_id: str, begun: float, seconds: float) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.stage_finished(stage, request_id, begun, seconds)

    def stage_failed(self, stage: str, request_id: str, begun: float, failure: Failure) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.stage_failed(stage, request_id, begun, failure)

    def stopped(self, where: Place, code: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.stopped(where, code)

    def reloaded(self, outcome: str) -> None:
        """Tell everybody."""
        for observer in self._observers:
            observer.reloaded(outcome)
