"""Whether to try a call again, and after which pause.

The decision is a pure function; the loop around it takes its clock, its sleep and its randomness
from outside. Only calls that may be repeated come here: unary ones, and those that name their work
by a request id, which the server does once.
Knows errors; not gRPC.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cascade.errors import CascadeError, ServerBusy, TransportError
from runtime_client.deadline import Deadline

T = TypeVar("T")

MAX_RESUMES = 8
"""Breaks in the middle of one request after which it is given up: the request itself may be what
brings its server down."""
RETRIED: tuple[type[CascadeError], ...] = (TransportError, ServerBusy)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try."""

    attempts: int = 4
    """All of them, the first one included."""
    first_pause_s: float = 0.1
    longest_pause_s: float = 2.0
    """The pause doubles up to this; a server that asks for more gets more."""
    jitter: float = 0.2
    """Part of the pause that chance adds or takes, so that clients do not return in step."""


class RetryBudget:
    """What keeps a client from beating a server that is down: gRPC's retry throttling.

    Each failure takes one token, each success gives a tenth back, and only the upper half of the
    tokens may be spent on trying again. So a hiccup is retried at once, and while every second call
    fails there is about one attempt per call. A server that says when to come back costs nothing.

    References:
        gRFC A6, "Throttling Retry Attempts and Hedged RPCs".
    """

    MAX_TOKENS = 10.0
    TOKENS_PER_SUCCESS = 0.1

    def __init__(self) -> None:
        self._tokens = self.MAX_TOKENS
        self._lock = threading.Lock()

    def note_success(self) -> None:
        """A call went well."""
        with self._lock:
            self._tokens = min(self.MAX_TOKENS, self._tokens + self.TOKENS_PER_SUCCESS)

    def allows_retry(self, error: CascadeError) -> bool:
        """Note a failure, and say whether another attempt may follow."""
        if error.retry_after_s is not None:
            return True
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens > self.MAX_TOKENS / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Pacing:
    """What the loop needs from the world."""

    sleep: Callable[[float], None]
    """Waits that many seconds; raises to end the loop."""
    chance: Callable[[], float]
    """A random number in [0, 1)."""


def pause_before_retry(
    policy: RetryPolicy, attempt: int, error: CascadeError, *, chance: float, remaining_s: float
) -> float | None:
    """The pause before the next attempt, or None to give up.

    Args:
        policy: bounds.
        attempt: number of the attempt that failed, from 1.
        error: how it failed.
        chance: a random number in [0, 1).
        remaining_s: seconds until the request's deadline.

    Returns:
        Seconds, always less than `remaining_s`; None when trying again is useless or too late.
    """
    if not isinstance(error, RETRIED) or attempt >= policy.attempts:
        return None
    backoff = min(policy.first_pause_s * 2 ** (attempt - 1), policy.longest_pause_s)
    pause = backoff * (1 + policy.jitter * (2 * chance - 1))
    if error.retry_after_s is not None:
        # Never earlier than the server asked: jitter only adds.
        pause = max(pause, error.retry_after_s * (1 + policy.jitter * chance))
    return pause if pause < remaining_s else None


def with_retries(
    attempt: Callable[[], T],
    *,
    policy: RetryPolicy,
    budget: RetryBudget,
    deadline: Deadline,
    pacing: Pacing,
) -> T:
    """The result of the first attempt that succeeds.

    Raises:
        CascadeError: the last attempt's error, once the policy or the budget gives up.
    """
    number = 0
    while True:
        number += 1
        try:
            result = attempt()
        except RETRIED as error:
            allowed = budget.allows_retry(error)
            pause = pause_before_retry(
                policy,
                number,
                error,
                chance=pacing.chance(),
                remaining_s=deadline.remaining_s(),
            )
            if pause is None or not allowed:
                raise
        else:
            budget.note_success()
            return result
        pacing.sleep(pause)
