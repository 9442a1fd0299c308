"""Log lines as JSON objects, one per line, on standard error, and of each kind only so many.

A line holds only the fields that its caller names, never a prompt, a picture or an exception's text
that could quote one. Knows formatting; not what happened.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Literal, TextIO

from cascade.errors import CascadeError
from runtime_server.telemetry.log_rate_limit import WINDOW_S, LineKind, LogRateLimit
from runtime_server.telemetry.traceparent import CURRENT_TRACE

LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")

LOGGER = logging.getLogger("runtime_server")
OUTCOMES = ("reason", "outcome", "kind", "status", "found")
"""Fields that tell lines of one event apart; the first that a line has."""
SUPPRESSED = "lines_suppressed"
MAX_FRAMES = 12
"""Innermost frames of a traceback that a line carries."""

LogValue = str | int | float | bool | None | list[str] | dict[str, float] | dict[str, str]


class JsonFormatter(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, what happened, the trace it belongs to, and the named fields."""
        line: dict[str, LogValue] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        trace = CURRENT_TRACE.get()
        if trace is not None:
            line["trace_id"] = trace.trace_id
        line.update(getattr(record, "fields", {}))
        return json.dumps(line)


class RateLimitedHandler(logging.StreamHandler[TextIO]):
    """Writes lines within their budget, and at the end of each window what it did not write."""

    def __init__(self, stream: TextIO, budget: LogRateLimit, window_s: float = WINDOW_S) -> None:
        """A handler whose window begins now.

        Args:
            stream: where lines go.
            budget: how many; this handler settles its accounts.
            window_s: seconds between two settlements.
        """
        super().__init__(stream)
        self.setFormatter(JsonFormatter())
        self._budget = budget
        self._window_s = window_s
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        self._tell(self._budget.settle())
        if self._budget.take(kind_of(record)):
            super().emit(record)
        elif self._timer is None:
            # Nothing may be written after a flood: then this is who tells of it.
            self._timer = threading.Timer(self._window_s, self._settle_later)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """Write what is still to be told."""
        if self._timer is not None:
            self._timer.cancel()
        self._locked(lambda: self._tell(self._budget.settle_now()))
        super().close()

    def _settle_later(self) -> None:
        self._timer = None
        self._locked(lambda: self._tell(self._budget.settle_now()))

    def _locked(self, action: Callable[[], None]) -> None:
        """Do something while no other thread writes."""
        self.acquire()
        try:
            action()
        finally:
            self.release()

    def _tell(self, suppressed: Mapping[LineKind, int]) -> None:
        """A line for each kind of which lines are missing; of no call, so in a context of none."""
        for kind, lines in suppressed.items():
            level = logging.getLevelName(kind.level.upper())
            record = LOGGER.makeRecord(LOGGER.name, level, "", 0, SUPPRESSED, (), None)
            record.fields = {"of": kind.event, "outcome": kind.outcome, "lines": lines}
            Context().run(super().emit, record)


def kind_of(record: logging.LogRecord) -> LineKind:
    """What a line shares its budget with.

    Errors of one place in the code share it, so that none hides another; and calls that got the
    result of an earlier one are told apart from those that work was done for.
    """
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    outcome = next((str(fields[name]) for name in OUTCOMES if name in fields), "")
    if fields.get("joined"):
        outcome += " joined"
    if fields.get("frames"):
        outcome += f" {fields['frames'][-1]}"
    return LineKind(record.getMessage(), record.levelname.lower(), outcome)


def configure_logs(level: LogLevel) -> None:
    """Send this package's lines to standard error."""
    LOGGER.handlers = [RateLimitedHandler(sys.stderr, LogRateLimit(time.monotonic))]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())


def log_event(event: str, *, level: LogLevel = "info", **fields: LogValue) -> None:
    """One line.

    Args:
        event: what happened, a fixed short name.
        level: severity.
        fields: numbers and names; never what a user wrote except a checked request id.
    """
    rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in fields.items()}
    LOGGER.log(logging.getLevelName(level.upper()), event, extra={"fields": rounded})


def log_error(error: BaseException, error_id: str, request_id: str) -> None:
    """A failure that the caller is told only the id of.

    The text is kept for errors of our own; a foreign exception's text may quote the request, so of
    that only the type and the frames are kept.
    """
    # File, line and function only: source lines are ours, but locals could be a prompt.
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    log_event(
        "internal_error",
        level="error",
        error_id=error_id,
        request_id=request_id,
        kind=type(error).__name__,
        text=str(error)[:2000] if isinstance(error, CascadeError) else "",
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )


def reason_of(error: Exception) -> str:
    """What a line calls an error."""
    return error.reason if isinstance(error, CascadeError) else type(error).__name__
