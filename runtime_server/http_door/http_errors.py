"""Errors as OpenAI's API has them: a status, headers, and `{"error": {...}}`.

What a caller is told of an error is decided where gRPC's callers are told; here only the spelling
is another. Knows status numbers; no socket.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from cascade.errors import CascadeError, QuotaExceeded, StageError
from runtime_server.protocol.status import OPAQUE_CODES, status_of

STATUSES: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 413,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "CANCELLED": 499,
    "RESOURCE_EXHAUSTED": 503,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""By gRPC's code; 500 for any other."""
TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
"""By status; other faults of a caller are `invalid_request_error`, the rest is `server_error`."""

PARAMS: Mapping[str, str] = {"negative": "negative_prompt", "request_id": "idempotency-key"}
"""Fields of a message of `Generate` that have another name here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpError:
    """An answer that is no picture."""

    status: int
    message: str
    code: str
    """For programs: `invalid_request`, `server_busy`, ..."""
    param: str | None = None
    """The field at fault."""
    retry_after_s: float | None = None

    @property
    def body(self) -> bytes:
        """The JSON."""
        kind = TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        error = {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What goes with the status."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


def http_error_of(error: Exception, request_id: str = "") -> HttpError:
    """What a caller is told of an error; what it is not told is logged.

    Args:
        error: anything that was raised.
        request_id: the caller's name of the request.
    """
    told = status_of(error, request_id)
    shown = error if isinstance(error, CascadeError) else StageError("")
    status = STATUSES.get(shown.code, 500)
    if isinstance(error, QuotaExceeded):
        status = 429
    opaque = shown.code in OPAQUE_CODES
    return HttpError(
        status=status,
        message=told.message,
        code=shown.reason.lower(),
        param=None if opaque or not shown.field else PARAMS.get(shown.field, shown.field),
        retry_after_s=None if opaque else shown.retry_after_s,
    )
