"""One tree of errors; each class carries the gRPC status code it travels as.

    CascadeError
    |- InvalidRequest       INVALID_ARGUMENT     a field of the request is wrong
    |  |- TensorCodecError                       bytes, shape and dtype disagree
    |  `- ImageCodecError                        not an image of a format we accept
    |- ManifestError        FAILED_PRECONDITION  a bundle is broken or not what it says
    |- BundleMismatch       FAILED_PRECONDITION  both sides hold different bundles
    |  `- PlacementError                         a server cannot run what is placed on it
    |- VersionMismatch      FAILED_PRECONDITION  the two sides speak different wire versions
    |- PrecisionMismatch    FAILED_PRECONDITION  the server computes in another precision
    |- UnsupportedModel     FAILED_PRECONDITION  a model from elsewhere cannot become a bundle
    |- UnknownContext       NOT_FOUND            the server has forgotten that context
    |- UnknownRequest       NOT_FOUND            no request of that id runs or is kept
    |- RequestIdTaken       ALREADY_EXISTS       that id names other work of the same caller
    |- Cancelled            CANCELLED            the caller gave up
    |- DeadlineExceeded     DEADLINE_EXCEEDED    the time allowed is over
    |- ServerBusy           RESOURCE_EXHAUSTED   a queue is full; try again after a while
    |- QuotaExceeded        RESOURCE_EXHAUSTED   this caller has used up what it may use
    |- Unauthenticated      UNAUTHENTICATED      nobody said who calls, or it was not accepted
    |- PermissionDenied     PERMISSION_DENIED    who calls is known and may not
    |- MessageTooLarge      OUT_OF_RANGE         a message over the documented limit
    |- TransportError       UNAVAILABLE          the network or the server is gone
    |- StageError           INTERNAL             a stage broke its own contract
    |- EngineError          INTERNAL             an inference engine failed
    |- MissingExtra         UNIMPLEMENTED        an optional package is not installed
    `- ParityError          DATA_LOSS            an exported graph is not its original

The module knows names and codes, not gRPC: the wire modules translate.
"""

from functools import cache
from typing import ClassVar


class CascadeError(Exception):
    """Root of every error this project raises on purpose.

    Attributes:
        code: name of the gRPC status code that this error travels as.
        field: path of the request field at fault, empty when none is.
        retry_after_s: seconds after which a retry may succeed, None when a retry cannot help.
        request_id: of the run that ended with it, where whoever ran it said so; else empty.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self, message: str, *, field: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.retry_after_s = retry_after_s
        self.request_id = ""

    @property
    def reason(self) -> str:
        """Stable machine-readable name: the class name in upper snake case."""
        return upper_snake(type(self).__name__)


@cache
def upper_snake(name: str) -> str:
    """`ServerBusy` as `SERVER_BUSY`; an overloaded server asks it of the same few names."""
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper()


class InvalidRequest(CascadeError):
    """A field of the request is wrong; `field` names it, the message states what would be right."""

    code = "INVALID_ARGUMENT"


class TensorCodecError(InvalidRequest):
    """The bytes of a tensor do not fit its declared shape and dtype, or hold NaN or infinity."""


class ImageCodecError(InvalidRequest):
    """Bytes are not an image of an accepted format and size."""


class ManifestError(CascadeError):
    """A bundle is incomplete, altered or unsafe; nothing of it was loaded."""

    code = "FAILED_PRECONDITION"


class UnsupportedModel(CascadeError):
    """A model from elsewhere asks for what no bundle can say; `field` names the file and the field.

    Nothing was written.
    """

    code = "FAILED_PRECONDITION"


class BundleMismatch(CascadeError):
    """Client and server hold different bundles; the picture would be wrong."""

    code = "FAILED_PRECONDITION"


class PlacementError(BundleMismatch):
    """A server cannot run a component that is placed on it; names both, and what to do."""


class VersionMismatch(CascadeError):
    """Client and server speak different versions of the wire."""

    code = "FAILED_PRECONDITION"


class PrecisionMismatch(CascadeError):
    """The server computes a component in another precision; the picture would be another one."""

    code = "FAILED_PRECONDITION"


class UnknownContext(CascadeError):
    """The server does not hold the context of that handle; send the embeddings inline."""

    code = "NOT_FOUND"


class UnknownRequest(CascadeError):
    """No request of that id runs, and no result of it is kept; ask with the whole request."""

    code = "NOT_FOUND"


class RequestIdTaken(CascadeError):
    """The same caller has used that request id for other work; choose a new one."""

    code = "ALREADY_EXISTS"


class Cancelled(CascadeError):
    """The caller asked for the work to stop."""

    code = "CANCELLED"


class DeadlineExceeded(CascadeError):
    """The time allowed for the request is over."""

    code = "DEADLINE_EXCEEDED"


class ServerBusy(CascadeError):
    """A queue is full; `retry_after_s` estimates when it will not be."""

    code = "RESOURCE_EXHAUSTED"


class QuotaExceeded(CascadeError):
    """The caller has used up its quota; `retry_after_s` is the time until a request passes."""

    code = "RESOURCE_EXHAUSTED"


class Unauthenticated(CascadeError):
    """The call carries no credentials, or none that the server accepts."""

    code = "UNAUTHENTICATED"


class PermissionDenied(CascadeError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class MessageTooLarge(CascadeError):
    """A message is over the documented size limit."""

    code = "OUT_OF_RANGE"


class TransportError(CascadeError):
    """The server cannot be reached or went away.

    Attributes:
        was_answered: whether a server, or something in front of it, said so; false where the
            connection was refused, torn or silent.
    """

    code = "UNAVAILABLE"
    was_answered = True


class StageError(CascadeError):
    """A stage broke its own contract: a bug, not the caller's fault."""

    code = "INTERNAL"


class EngineError(CascadeError):
    """An inference engine refused a graph or failed in a run."""

    code = "INTERNAL"


class MissingExtra(CascadeError):
    """An optional package is needed; the message gives the pip command."""

    code = "UNIMPLEMENTED"


class ParityError(CascadeError):
    """An exported graph differs from its original by more than its tolerance."""

    code = "DATA_LOSS"
