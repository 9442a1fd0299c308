"""What gRPC says, in our words."""

import math
import time
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    InvalidRequest,
    MessageTooLarge,
    PermissionDenied,
    ServerBusy,
    StageError,
    TransportError,
    Unauthenticated,
    VersionMismatch,
)
from runtime_client.credentials import BearerToken
from runtime_client.remote.server_link import check_fits
from runtime_client.remote.transport import (
    PUSHBACK,
    Keepalive,
    Security,
    Transport,
    channel_options,
    judge_time,
    translate,
)
from runtime_server.app.server import GRPC_OPTIONS
from wire.errors import ERROR_DOMAIN, error_classes
from wire.limits import MAX_MESSAGE_BYTES
from wire.server_info import ServerInfo
from wire.service import REQUEST_ID_KEY, WIRE_VERSION

RESET = "Stream removed (RST_STREAM (Received RST_STREAM with error code"
STATUS_KEY = "grpc-status-details-bin"


class FailedCall(grpc.RpcError):
    """A call that ended with a status, as gRPC hands it out."""

    def __init__(self, code: str, details: str, status: Any = None, pushback: str = "") -> None:
        self._code = grpc.StatusCode[code]
        self._details = details
        data = b"" if status is None else status.SerializeToString()
        self._trailers: list[tuple[str, Any]] = [] if status is None else [(STATUS_KEY, data)]
        if pushback:
            self._trailers.append((PUSHBACK, pushback))

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str:
        """The message."""
        return self._details

    def trailing_metadata(self) -> "list[Trailer]":
        """Where rich details travel."""
        return [Trailer(key, value) for key, value in self._trailers]


class Trailer(NamedTuple):
    """One entry of the metadata, with the names that grpc_status reads."""

    key: str
    value: Any


def rich(error: CascadeError, domain: str = ERROR_DOMAIN) -> FailedCall:
    """How a server sends an error of ours."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=str(error))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=domain))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return FailedCall(error.code, str(error), status)


@pytest.mark.parametrize("kind", sorted(error_classes().values(), key=lambda k: k.__name__))
def test_every_error_of_ours_comes_back(kind: type[CascadeError]) -> None:
    """Class, message, field and delay survive the wire."""
    found = translate(rich(kind("why", field="a.b", retry_after_s=1.5)), cancelled=False)
    assert type(found) is kind
    assert (str(found), found.field, found.retry_after_s) == ("why", "a.b", 1.5)


def test_details_of_others_are_not_ours() -> None:
    """Another domain's reason means nothing here; the code decides."""
    found = translate(rich(InvalidRequest("why"), domain="example.org"), cancelled=False)
    assert type(found) is InvalidRequest
    assert "INVALID_ARGUMENT" in str(found)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "Connection refused", TransportError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
        ("UNKNOWN", "Stream removed (Deadline Exceeded)", DeadlineExceeded),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 8)", MessageTooLarge),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", ServerBusy),
        ("INVALID_ARGUMENT", "bad", InvalidRequest),
        ("UNIMPLEMENTED", "Method not found!", VersionMismatch),
        ("INTERNAL", "Received RST_STREAM with error code 2", TransportError),
        ("CANCELLED", "Received RST_STREAM with error code 8", TransportError),
        ("UNKNOWN", "Stream removed", TransportError),
        ("UNAVAILABLE", f"{RESET} 7))", ServerBusy),
        ("RESOURCE_EXHAUSTED", f"{RESET} 11))", ServerBusy),
        ("UNAVAILABLE", "Received http2 header with status: 429", ServerBusy),
        ("UNAVAILABLE", "Received http2 header with status: 503", TransportError),
        ("INTERNAL", "boom", StageError),
        ("PERMISSION_DENIED", "no", PermissionDenied),
        ("UNAUTHENTICATED", "no", Unauthenticated),
        ("ABORTED", "no", CascadeError),
    ],
)
def test_codes_without_details(code: str, details: str, kind: type[CascadeError]) -> None:
    """Proxies and gRPC itself send codes alone."""
    assert type(translate(FailedCall(code, details), cancelled=False)) is kind


def test_what_was_cancelled_here_is_cancelled() -> None:
    """Whatever the other side made of it."""
    assert type(translate(FailedCall("UNAVAILABLE", "gone"), cancelled=True)) is Cancelled


def test_breaking_off_at_the_deadline_is_the_deadline() -> None:
    """Whichever side gives up first; earlier it is the network, and other errors stay."""
    gone, now = TransportError("reset"), time.monotonic()
    assert type(judge_time(gone, now - 1)) is DeadlineExceeded
    assert judge_time(gone, now + 60) is gone
    wrong = InvalidRequest("bad")
    assert judge_time(wrong, now - 1) is wrong


@pytest.mark.parametrize(
    ("details", "answered"),
    [
        ("Stream removed (Socket closed)", False),
        ("Stream removed (recvmsg:Connection reset by peer (104))", False),
        ("Stream removed (ping timeout)", False),
        ("failed to connect to all addresses; last error: UNKNOWN: refused", False),
        ("DNS resolution failed for nowhere:1", False),
        (f"{RESET} 2))", True),
        ("overloaded", True),
    ],
)
def test_whether_anybody_answered_is_known(details: str, answered: bool) -> None:  # noqa: FBT001
    """As gRPC 1.85 words it; a failure that a server chose costs the budget of retries."""
    error = translate(FailedCall("UNAVAILABLE", details), cancelled=False)
    assert isinstance(error, TransportError)
    assert error.was_answered == answered


def test_limits_are_explicit() -> None:
    """No message size is left to gRPC's defaults."""
    options = dict(channel_options("host:1", Keepalive()))
    assert options["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES
    assert options["grpc.max_send_message_length"] == MAX_MESSAGE_BYTES


def test_a_dead_link_is_found_in_15_s_and_servers_permit_the_pings() -> None:
    """By arithmetic; with real sockets and shorter times in `test_dead_links`."""
    options = dict(channel_options("host:1", Keepalive()))
    # The ping's own limit is what ends a connection.
    assert options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"] <= 15_000
    assert options["grpc.keepalive_timeout_ms"] == options["grpc.http2.ping_timeout_ms"]
    assert options["grpc.http2.max_pings_without_data"] == 0
    permitted = dict(GRPC_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
    assert options["grpc.keepalive_time_ms"] >= 2 * permitted


def server_info(
    wire_version: int = WIRE_VERSION, bundle_id: str = "b", bundle_ids: tuple[str, ...] = ()
) -> ServerInfo:
    """A server that fits, unless told otherwise."""
    return ServerInfo(
        wire_version=wire_version,
        software_version="9",
        bundle_id=bundle_id,
        bundle_ids=bundle_ids,
        bundle_name="tiny",
        image_formats=(),
    )


def test_a_server_must_fit() -> None:
    """The same wire and the same bundle, or a typed error."""
    assert check_fits(server_info(), ("b",)) == "b"
    with pytest.raises(VersionMismatch, match="version 99"):
        check_fits(server_info(wire_version=99), ("b",))
    with pytest.raises(BundleMismatch, match="same bundle"):
        check_fits(server_info(bundle_id="c"), ("b",))


def test_an_upgraded_bundle_fits_an_older_server() -> None:
    """One that knows the bundle by its id before the upgrade; calls then use that id."""
    assert check_fits(server_info(bundle_id="before"), ("now", "before")) == "before"
    present = server_info(bundle_id="before", bundle_ids=("now", "before"))
    assert check_fits(present, ("now", "before")) == "now"


def test_two_bundles_upgraded_from_one_do_not_fit() -> None:
    """What was changed after the upgrade makes other pictures."""
    other = server_info(bundle_id="before", bundle_ids=("other", "before"))
    with pytest.raises(BundleMismatch, match="other"):
        check_fits(other, ("now", "before"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("700", 0.7),
        ("0", 0.0),
        ("", None),
        ("-1", math.inf),
        ("soon", math.inf),
        ("1" * 400, math.inf),
    ],
)
@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_the_pushback_of_a_server_or_proxy_is_heard(
    code: str, said: str, expected: float | None
) -> None:
    """Where no details of ours say it; what is no number forbids a retry."""
    call = FailedCall(code, "later", pushback=said)
    assert translate(call, cancelled=False).retry_after_s == expected


def test_calls_about_a_request_name_it_in_a_header() -> None:
    """For proxies that route by it; an id that no header may hold is left to the server."""
    transport = Transport("127.0.0.1:1", Security(token=BearerToken(token="t" * 8)))
    bearer = ("authorization", "Bearer tttttttt")
    assert transport._metadata("") == (bearer,)
    assert transport._metadata("a.b-c_1") == (bearer, (REQUEST_ID_KEY, "a.b-c_1"))
    for unsafe in ("a b", "ä", "a\nb", "x" * 65):
        assert transport._metadata(unsafe) == (bearer,)
    transport.close()
