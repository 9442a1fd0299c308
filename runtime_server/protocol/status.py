"""Errors as google.rpc.Status: code, reason, field at fault, when to retry.

An error of code INTERNAL travels as a constant text and an id; what it says stays in the log. Knows
errors and status messages; no sockets.
"""

import secrets

from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from cascade.errors import CascadeError, StageError
from cascade.wire_contract import ERROR_DOMAIN
from runtime_server.telemetry.logs import log_error

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
        return describe(error, str(error)[:MAX_MESSAGE_CHARACTERS], {"request_id": request_id})
    error_id = secrets.token_hex(8)
    log_error(error, error_id, request_id)
    shown = error if isinstance(error, CascadeError) else StageError("")
    text = f"the server failed; its log has the cause under error id {error_id}"
    return describe(shown, text, {"request_id": request_id, "error_id": error_id})


def describe(error: CascadeError, text: str, metadata: dict[str, str]) -> status_pb2.Status:
    """A status with its details.

    Args:
        error: gives code, reason, field and delay.
        text: the message for people.
        metadata: more for ErrorInfo; empty values are left out.
    """
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=text)
    named = {"field": error.field, **metadata}
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=ERROR_DOMAIN,
        metadata={key: value for key, value in named.items() if value},
    )
    status.details.add().Pack(info)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=text)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status
