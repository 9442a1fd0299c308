"""Authentication in front of every handler: who calls is known before the body is received.

A gRPC interceptor. A refused call is answered by a handler that takes the body as a stream and
never reads it, so nothing of it is received, held or parsed. Knows gRPC; the rules are
`auth.authenticator`'s.
"""

from contextvars import ContextVar
from typing import Any

from cascade.errors import CascadeError
from runtime_server.app.departures import sent_or_gone
from runtime_server.app.grpc_aio import Continuation, stream_handler, to_status
from runtime_server.auth.authenticator import Authenticator, Metadata
from runtime_server.protocol.status import status_of
from runtime_server.telemetry.logs import log_event, reason_of
from runtime_server.telemetry.server_events import Emit, RequestRefused

CALLER: ContextVar[str | None] = ContextVar("caller", default=None)
"""Who the present call is from, where its metadata said it."""


class AuthInterceptor:
    """Lets calls through under their caller's name, or refuses them."""

    def __init__(self, authenticator: Authenticator, emit: Emit) -> None:
        """An interceptor.

        Args:
            authenticator: the rules.
            emit: where refusals are told.
        """
        self._authenticator = authenticator
        self._emit = emit

    async def intercept(self, continuation: Continuation, details: Any) -> Any:
        """The handler of a call: the true one, or one that refuses."""
        try:
            self.let_in(details.method, details.invocation_metadata or ())
        except Exception as exc:  # noqa: BLE001 - a rim: what goes wrong here lets nobody in
            return refusing(exc)
        return await continuation(details)

    def let_in(self, method: str, metadata: Metadata) -> None:
        """Note who a call is from, as far as its metadata say.

        Args:
            method: full path.
            metadata: of the call.

        Raises:
            CascadeError: nobody may call so.
        """
        try:
            CALLER.set(self._authenticator.identify(method, metadata))
        except Exception as exc:
            self._refused(exc, method)
            raise

    def caller(self, context: Any) -> str:
        """Who the present call is from.

        Args:
            context: the servicer context of the call.

        Raises:
            CascadeError: the connection gives no name, and nobody may call without one.
        """
        # From the metadata; a certificate is known only where the connection is at hand.
        named = CALLER.get()
        if named is not None:
            return named
        try:
            return self._authenticator.name_of_connection(context.auth_context())
        except CascadeError as exc:
            self._refused(exc, "")
            raise

    def _refused(self, error: Exception, method: str) -> None:
        """Count it and write it down; of the credentials nothing."""
        self._emit(RequestRefused("auth"))
        reason = reason_of(error)
        log_event("unauthenticated", level="warning", reason=reason, method=method[:80])


def refusing(error: Exception) -> Any:
    """A handler that answers any kind of call with an error and reads none of it."""
    status = to_status(status_of(error))

    async def refuse(messages: Any, context: Any) -> None:
        del messages
        with sent_or_gone():
            await context.abort_with_status(status)

    return stream_handler(refuse)
