"""Errors as `google.rpc.Status` and back: code, reason, the field at fault, when to retry.

ErrorInfo carries the reason, BadRequest the field, RetryInfo the delay (the richer error model of
gRPC). Which errors keep their text to themselves is decided elsewhere.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from cascade.errors import CascadeError

ERROR_DOMAIN = "cascade.v1"
"""Domain of the ErrorInfo that every error of ours carries."""


def error_classes() -> dict[str, type[CascadeError]]:
    """Every error class by its `reason`, as ErrorInfo carries it."""
    found: dict[str, type[CascadeError]] = {}
    waiting = [CascadeError]
    while waiting:
        kind = waiting.pop()
        found[kind("").reason] = kind
        # Asked each time, not at import: a class that a later module defines is found too.
        waiting.extend(kind.__subclasses__())
    return found


def status_of_error(
    error: CascadeError, text: str, metadata: Mapping[str, str]
) -> status_pb2.Status:
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
        # ErrorInfo is sent as a trailer, and gRPC bounds all trailers together: nothing empty goes
        # along.
        metadata={key: value for key, value in named.items() if value},
    )
    status.details.add().Pack(info)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=text)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        # Through whole nanoseconds: a float of seconds would lose digits in Duration's two fields.
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def error_of_status(status: Any) -> CascadeError | None:
    """The error that a `google.rpc.Status` of ours describes; None for someone else's."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        # Unpack leaves the target alone where the detail is of another type, so that each is tried
        # with all.
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    # A proxy's or a load balancer's ErrorInfo may carry a reason that is spelt like one of ours.
    kind = error_classes().get(info.reason) if info.domain == ERROR_DOMAIN else None
    if kind is None:
        return None
    field = bad.field_violations[0].field if bad.field_violations else ""
    return kind(status.message, field=field, retry_after_s=retry_after_s)
