"""The clock that limits, stores and queues are given: tests pass another."""

from collections.abc import Callable

Clock = Callable[[], float]
"""Monotonic seconds."""
