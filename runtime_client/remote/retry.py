"""Whether to try a call again, and after which pause: exponential backoff with jitter and a budget.

The decision is a pure function; clock and randomness come from outside, and the loop is the
caller's. Only calls that may be repeated come here: unary ones, and those that name their work by a
request id (an idempotency key), which the server does once.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cascade.errors import CascadeError, QuotaExceeded, ServerBusy, TransportError
from runtime_client.config import DEFAULT_WAIT_S
from runtime_client.deadline import Clock, Deadline

MAX_RESUMES = 8
"""Breaks in the middle of one request after which it is given up: the request itself may be what
brings its server down."""
NO_ROOM: tuple[type[CascadeError], ...] = (ServerBusy, QuotaExceeded)
"""Refusals that time alone cures: asked again until the deadline."""
RETRIED: tuple[type[CascadeError], ...] = (TransportError, *NO_ROOM)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long and how patiently to try."""

    patience_s: float = DEFAULT_WAIT_S
    """How long a server that is not there is asked again, from the first failure on; with the
    pauses below that makes four attempts. A server without room is asked until the deadline."""
    first_pause_s: float = 0.1
    longest_pause_s: float = 2.0
    """The pause doubles up to this; a server that asks for more gets more."""
    jitter: float = 0.2
    """Part of the pause that chance adds or takes, so that clients do not return in step."""


class RetryBudget:
    """What keeps a client from beating a server that fails: gRPC's retry throttling.

    Each failure that a server answers with takes one token, and only the upper half of the tokens
    may be spent on trying again. So a hiccup is retried at once, and while every second call fails
    there is about one attempt per call. Tokens come back with successes and with time. A server
    that says when to come back costs nothing, nor does a connection that is not there: trying it
    again burdens nobody, and its loss hits every request on it at the same moment.

    References:
        gRFC A6, "Throttling Retry Attempts and Hedged RPCs"; there tokens do not come with time.
    """

    MAX_TOKENS = 10.0
    TOKENS_PER_SUCCESS = 0.1
    TOKENS_PER_SECOND = 0.5
    """A quarter of a minute after the worst outage a failure is retried again."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._tokens = self.MAX_TOKENS
        self._filled_at = clock()
        self._lock = threading.Lock()

    def note_success(self) -> None:
        """A call went well."""
        with self._lock:
            self._add(self.TOKENS_PER_SUCCESS)

    def allows_retry(self, error: CascadeError) -> bool:
        """Note a failure, and say whether another attempt may follow."""
        is_answer = isinstance(error, TransportError) and error.was_answered
        if not is_answer or error.retry_after_s is not None:
            return True
        with self._lock:
            self._add(-1.0)
            # After the token is taken, as gRFC A6 has it: the failure itself counts before its
            # retry.
            return self._tokens > self.MAX_TOKENS / 2

    def _add(self, tokens: float) -> None:
        """Let in what time has brought, then these; never below 0 nor over the most."""
        now = self._clock()
        brought = (now - self._filled_at) * self.TOKENS_PER_SECOND
        self._filled_at = now
        self._tokens = min(self.MAX_TOKENS, self._tokens + brought)
        self._tokens = min(self.MAX_TOKENS, max(0.0, self._tokens + tokens))


def pause_before_retry(
    policy: RetryPolicy, attempt: int, error: CascadeError, *, chance: float, spent_s: float
) -> float | None:
    """The pause before the next attempt, or None to give up.

    Args:
        policy: bounds.
        attempt: number of the attempt that failed, from 1.
        error: how it failed.
        chance: a random number in [0, 1).
        spent_s: seconds since the trouble began.

    Returns:
        Seconds; None when trying again is useless or the patience is at its end.
    """
    if not isinstance(error, RETRIED):
        return None
    # From the tenth failure on the pause no longer grows; nor may the power overflow.
    doubled = policy.first_pause_s * float(2 ** min(attempt - 1, 10))
    backoff = min(doubled, policy.longest_pause_s)
    pause = backoff * (1 + policy.jitter * (2 * chance - 1))
    if error.retry_after_s is not None:
        # Never earlier than the server asked: jitter only adds.
        return max(pause, error.retry_after_s * (1 + policy.jitter * chance))
    patient = isinstance(error, NO_ROOM) or spent_s + pause <= policy.patience_s
    return pause if patient else None


class Retrier:
    """The attempts at one call: after each failure, how long to wait before the next.

    The loop is the caller's: it makes the attempts and waits in its own way.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        deadline: Deadline,
        *,
        chance: Callable[[], float] = random.random,
        broken_at: float | None = None,
    ) -> None:
        """No attempt yet.

        Args:
            policy: bounds.
            budget: shared by all calls to the same server.
            deadline: leaves no time for an attempt after it.
            chance: a random number in [0, 1).
            broken_at: when the trouble began, on the deadline's clock; with the first failure when
                None.
        """
        self._policy = policy
        self._budget = budget
        self.deadline = deadline
        """Of the whole call."""
        self._chance = chance
        self._began_at = broken_at
        self._failures = 0

    def pause_after(self, error: CascadeError) -> float:
        """Note that an attempt failed.

        Returns:
            Seconds to wait before the next attempt.

        Raises:
            CascadeError: that error, once the policy or the budget gives up or the deadline leaves
                no time for another.
        """
        # One Retrier per call and thread: nothing here needs a lock; the shared budget has its own.
        self._failures += 1
        now = self.deadline.clock()
        self._began_at = now if self._began_at is None else self._began_at
        # Asked even where the policy gives up: the budget counts failures, not retries.
        allowed = self._budget.allows_retry(error)
        pause = pause_before_retry(
            self._policy,
            self._failures,
            error,
            chance=self._chance(),
            spent_s=now - self._began_at,
        )
        if pause is None or not allowed or pause >= self.deadline.remaining_s():
            raise error
        return pause

    def note_success(self) -> None:
        """Note that an attempt succeeded."""
        self._budget.note_success()
