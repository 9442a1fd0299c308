"""Every error class: its reason and code on the wire, the exit code, whether to retry, the remedy.

Knows the tree of errors and what the client retries; the remedies are a table here, which has to
be complete.
"""

from cascade.commands.exit_codes import BAD_INPUT, FAILED, exit_code
from cascade.errors import CascadeError
from runtime_client.remote.retry import NO_ROOM, RETRIED
from runtime_server.protocol.status import OPAQUE_CODES
from tests.reference_pages.markdown import summary, table
from wire.errors import error_classes

REMEDIES = {
    "CascadeError": "Update the client: the server sent an error that it does not know.",
    "InvalidRequest": "Correct the field that `field` names.",
    "TensorCodecError": "Send as many little-endian bytes as shape and dtype need, all finite.",
    "ImageCodecError": "Send a picture of the declared format and size.",
    "ManifestError": "Fetch the bundle again, or run `cascade verify`.",
    "UnsupportedModel": "Export another model; the message names the file and the field.",
    "BundleMismatch": "Give client and server the same bundle; compare `bundle_ids`.",
    "PlacementError": "Place the component elsewhere, or start that server with `--components`.",
    "VersionMismatch": "Install the same `wire_version` on both sides.",
    "PrecisionMismatch": "Ask for the server's precision, or for none.",
    "UnknownContext": "Send the embeddings inline, or call `PutContext` again.",
    "UnknownRequest": "Send the whole request again.",
    "RequestIdTaken": "Choose a new request id for every picture.",
    "Cancelled": "Nothing: a caller ended the work.",
    "DeadlineExceeded": "Allow more time, or fewer steps.",
    "ServerBusy": "Retry after the time in `RetryInfo`; add capacity if it lasts.",
    "QuotaExceeded": "Retry after the time in `RetryInfo`, or raise `quota_megapixels_per_minute`.",
    "Unauthenticated": "Send a valid token in `authorization: Bearer TOKEN`.",
    "PermissionDenied": "Use a certificate whose name the server accepts.",
    "MessageTooLarge": "Set `joins_fragments`, or ask for a smaller or compressed picture.",
    "TransportError": "Retry with the same request id: no work is done twice.",
    "StageError": "Report it; on a server, its log has the cause under `error_id`.",
    "EngineError": "Try another engine or precision; run `cascade doctor`.",
    "MissingExtra": "Run the pip command of the message.",
    "ParityError": "Export in float32, or correct what the message names.",
}


def kinds() -> list[type[CascadeError]]:
    """Every class of the tree, in the order of the source."""
    order = list(REMEDIES)
    return sorted(error_classes().values(), key=lambda kind: order.index(kind.__name__))


def retry_of(kind: type[CascadeError]) -> str:
    """What the client does of its own accord."""
    if issubclass(kind, NO_ROOM):
        return "yes, after `RetryInfo`"
    return "yes, at once with backoff" if issubclass(kind, RETRIED) else "no"


def errors() -> str:
    """The table of classes."""
    rows = []
    for kind in kinds():
        shown = "an `error_id` alone" if kind.code in OPAQUE_CODES else "its message"
        rows.append((
            f"`{kind.__name__}`", f"`{kind('').reason}`", f"`{kind.code}`",
            str(exit_code(kind(""))), retry_of(kind), shown, summary(kind), REMEDIES[kind.__name__],
        ))  # fmt: skip
    head = ("class", "`reason`", "gRPC code", "exit code", "retried", "caller receives", "meaning",
            "remedy")  # fmt: skip
    return table(head, rows)


def exit_codes() -> str:
    """The table of exit codes."""
    names = {code: [k.__name__ for k in kinds() if exit_code(k("")) == code]
             for code in (BAD_INPUT, FAILED)}  # fmt: skip
    listed = {code: ", ".join(f"`{name}`" for name in found) for code, found in names.items()}
    rows = (
        ("`0`", "Done. For `generate` and `fetch`: the picture is written."),
        ("`1`", "Done, but standard output did not take what the command prints (a full disk). "
         "For `serve`: ended while requests were in flight."),
        ("`2`", "The command line, a file or the installation is at fault, and the same call fails "
         f"again: {listed[BAD_INPUT]}; an engine asked by a flag for what it cannot do; a file "
         "that the system refuses."),
        ("`3`", "A server, the network, an engine or the time allowed, and the same call may "
         f"succeed later: {listed[FAILED]}."),
        ("`129`", "Ended by SIGHUP: the terminal closed."),
        ("`130`", "Ended by SIGINT: Ctrl-C."),
        ("`141`", "The reader of standard output closed it (`| head`); no message."),
        ("`143`", "Ended by SIGTERM."),
    )  # fmt: skip
    return table(("code", "when"), rows)
