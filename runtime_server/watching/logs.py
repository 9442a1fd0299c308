"""Log lines as JSON objects, one per line, on standard error.

A line holds only the fields that its caller names, never a prompt, a picture or an exception's text
that could quote one. Knows formatting; not what happened.
"""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from typing import Literal

from cascade.errors import CascadeError

LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")

LOGGER = logging.getLogger("runtime_server")
MAX_FRAMES = 12
"""Innermost frames of a traceback that a line carries."""

TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
"""Of the trace that the present call belongs to; empty where there is none."""

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
        if TRACE_ID.get():
            line["trace_id"] = TRACE_ID.get()
        line.update(getattr(record, "fields", {}))
        return json.dumps(line)


def configure_logs(level: LogLevel) -> None:
    """Send this package's lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    LOGGER.handlers = [handler]
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
