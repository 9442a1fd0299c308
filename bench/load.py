"""Load generators: single stream, closed loop, open loop; each sends items and keeps attempts.

An open loop sends every request in a thread of its own at its due time, whatever has come back.
What was kept when a run is interrupted stays kept. Knows a `System` and a clock; no statistics.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.attempt import Attempt, with_residual
from bench.systems.system import PictureOutcome, System
from bench.workload import Workload
from cascade.errors import CascadeError
from cascade.types import ImageU8

MOST_IN_FLIGHT = 512
"""Threads of an open loop; a request beyond them is a failure, not a delay."""
CROWDED = "TOO_MANY_IN_FLIGHT"
Clock = Callable[[], float]
OnAttempt = Callable[[Attempt, dict[str, ImageU8]], None]
"""Told of every attempt with its pictures, after it was timed."""


@dataclass(slots=True)
class Window:
    """One measured stretch of time, and the attempts in it."""

    system: System
    workload: Workload
    on_attempt: OnAttempt = lambda _attempt, _pictures: None
    clock: Clock = time.perf_counter
    attempts: list[Attempt] = field(default_factory=list)
    begun: float = 0.0
    seconds: float = 0.0
    """From the begin to the last end; as far as it came when it is interrupted."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Times count from here."""
        self.begun = self.clock()

    def now(self) -> float:
        """Seconds since the begin."""
        return self.clock() - self.begun

    def attempt(self, number: int, due_s: float | None = None) -> None:
        """One request, kept whatever becomes of it.

        Args:
            number: of the item.
            due_s: when it should have been sent; None is now.
        """
        pictures: dict[str, ImageU8] = {}
        times: dict[str, float] = {}
        sent_s = self.now()

        def on_picture(stage: str, image: ImageU8) -> None:
            times[stage] = self.now()
            pictures[stage] = image

        error, done_s, outcome = "", None, PictureOutcome()
        hops: dict[str, float] = {}
        try:
            outcome = self.system.run(self.workload.item(number), on_picture)
            done_s = self.now()
            hops = with_residual(outcome.hops, done_s - sent_s)
        except CascadeError as exc:
            error = exc.reason
        # After the time was taken: hashing a megapixel takes milliseconds.
        self.keep(
            Attempt(
                number=number,
                due_s=sent_s if due_s is None else due_s,
                sent_s=sent_s,
                done_s=done_s,
                pictures_s=times,
                hops=hops,
                bytes_up=outcome.bytes_up,
                bytes_down=outcome.bytes_down,
                hashes={stage: pixel_hash(image) for stage, image in pictures.items()},
                error=error,
            ),
            pictures,
        )

    def keep(self, attempt: Attempt, pictures: dict[str, ImageU8]) -> None:
        """Take in an attempt, from any thread."""
        with self._lock:
            self.attempts.append(attempt)
            self.seconds = max(self.seconds, attempt.done_s or attempt.sent_s)
            self.on_attempt(attempt, pictures)


def single_stream(window: Window, numbers: Iterable[int], until_s: float = float("inf")) -> None:
    """One request after the other.

    Args:
        window: begins here.
        numbers: of the items.
        until_s: no request is sent after it, seconds from the begin.
    """
    window.begin()
    for number in numbers:
        if window.now() >= until_s:
            return
        window.attempt(number)


def in_turns(
    windows: Sequence[Window], numbers: Iterable[int], until_s: float = float("inf")
) -> None:
    """Single streams of several systems, request by request; each is first as often as the next.

    A window's seconds are those of its own requests.

    Args:
        windows: begin here.
        numbers: of the items, the same for each.
        until_s: no request is sent after it.
    """
    for window in windows:
        window.begin()
    for turn, number in enumerate(numbers):
        if windows[0].now() >= until_s:
            break
        first = turn % len(windows)
        for window in [*windows[first:], *windows[:first]]:
            window.attempt(number)
    for window in windows:
        window.seconds = sum(a.latency_s for a in window.attempts if not a.error)


def closed_loop(
    window: Window, numbers: Iterable[int], clients: int, until_s: float = float("inf")
) -> None:
    """So many clients, each sends its next request when its last one has ended.

    Args:
        window: begins here.
        numbers: of the items, shared.
        clients: how many.
        until_s: no request is sent after it.
    """
    left = iter(numbers)
    lock = threading.Lock()
    window.begin()

    def client() -> None:
        while window.now() < until_s:
            with lock:
                number = next(left, None)
            if number is None:
                return
            window.attempt(number)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def open_loop(
    window: Window,
    due_s: Sequence[float],
    first: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Every request at its due time, and wait for the last end.

    Args:
        window: begins here.
        due_s: ascending, seconds from the begin.
        first: number of the first item.
        sleep: waits for seconds.
    """
    room = threading.Semaphore(MOST_IN_FLIGHT)
    threads: list[threading.Thread] = []
    window.begin()

    def one(number: int, due: float) -> None:
        try:
            window.attempt(number, due)
        finally:
            room.release()

    for number, due in enumerate(due_s, first):
        while (wait := due - window.now()) > 0:
            sleep(wait)
        if not room.acquire(blocking=False):
            sent = window.now()
            lost = Attempt(number=number, due_s=due, sent_s=sent, done_s=None, error=CROWDED)
            window.keep(lost, {})
            continue
        thread = threading.Thread(target=one, args=(number, float(due)), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


def pixel_hash(image: ImageU8) -> str:
    """SHA-256 of a picture's pixels, `[height, width, 3]` uint8, row by row."""
    return hashlib.sha256(image.tobytes()).hexdigest()
