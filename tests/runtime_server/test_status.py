"""Errors as rich statuses, each with its class's code, and nothing internal in any."""

from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2

from cascade.errors import CascadeError, EngineError, InvalidRequest, ServerBusy
from runtime_server.protocol.status import MAX_MESSAGE_CHARACTERS, OPAQUE_CODES, status_of
from wire.errors import ERROR_DOMAIN, error_classes


def details(status: Any) -> dict[str, Any]:
    """Unpacked details by type name."""
    kinds = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
    )
    found = {}
    for packed in status.details:
        for kind in kinds:
            message = kind()
            if packed.Unpack(message):
                found[kind.DESCRIPTOR.name] = message
    return found


@pytest.mark.parametrize("kind", error_classes().values(), ids=lambda kind: kind.__name__)
def test_every_error_travels_with_its_code_and_reason(kind: type[CascadeError]) -> None:
    """The class alone decides code and reason."""
    error = kind("what was wrong")
    status = status_of(error, "r-1")
    info = details(status)["ErrorInfo"]
    assert code_pb2.Code.Name(status.code) == kind.code
    assert (info.domain, info.reason) == (ERROR_DOMAIN, error.reason)
    assert info.metadata["request_id"] == "r-1"
    assert ("what was wrong" in status.message) == (kind.code not in OPAQUE_CODES)


def test_the_field_at_fault_is_named_twice() -> None:
    """ErrorInfo for our clients, BadRequest for everybody's."""
    found = details(status_of(InvalidRequest("steps: too many", field="options.base.steps")))
    assert found["ErrorInfo"].metadata["field"] == "options.base.steps"
    violation = found["BadRequest"].field_violations[0]
    assert (violation.field, violation.description) == ("options.base.steps", "steps: too many")


def test_a_delay_travels_as_retry_info() -> None:
    """Seconds with their fraction."""
    found = details(status_of(ServerBusy("full", retry_after_s=2.25)))
    assert found["RetryInfo"].retry_delay.ToNanoseconds() == 2_250_000_000


@pytest.mark.parametrize("error", [EngineError("node /secret/17"), KeyError("/secret/17")])
def test_internal_errors_say_nothing_but_an_id(error: Exception) -> None:
    """The text is constant up to the id, and the id is in the metadata too."""
    status = status_of(error)
    error_id = details(status)["ErrorInfo"].metadata["error_id"]
    assert status.message == f"the server failed; its log has the cause under error id {error_id}"
    assert b"secret" not in status.SerializeToString()


def test_long_messages_are_cut() -> None:
    """Trailers are small."""
    status = status_of(InvalidRequest("x" * 100_000))
    assert len(status.message) == MAX_MESSAGE_CHARACTERS
