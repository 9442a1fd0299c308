"""What a caller is told of an error, and what only the log keeps.

An error of code INTERNAL travels as a constant text and an id; what it says stays in the log. How
a status is written is `wire.errors`.
"""

import secrets

from google.rpc import status_pb2

from cascade.errors import CascadeError, StageError
from runtime_server.telemetry.logs import log_error
from wire.errors import status_of_error

MAX_MESSAGE_CHARACTERS = 600
"""Status travels in trailers, which share the peer's limit on metadata."""

OPAQUE_CODES = ("INTERNAL", "UNKNOWN", "DATA_LOSS")


def status_of(error: Exception, request_id: str = "") -> status_pb2.Status:
    """What the caller is told of an error; what it is not told is logged.

    Args:
        error: anything that a handler raised.
        request_id: the caller's name of the request, empty when it is not known or not valid.
    """
    if isinstance(error, CascadeError) and error.code not in OPAQUE_CODES:
        return status_of_error(
            error, str(error)[:MAX_MESSAGE_CHARACTERS], {"request_id": request_id}
        )
    error_id = secrets.token_hex(8)
    log_error(error, error_id, request_id)
    shown = error if isinstance(error, CascadeError) else StageError("")
    text = f"the server failed; its log has the cause under error id {error_id}"
    return status_of_error(shown, text, {"request_id": request_id, "error_id": error_id})
