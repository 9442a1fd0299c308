"""gRPC's asyncio server, as far as we use it: the one file of the server that imports grpc.

Handlers, interceptors and errors come out as our own functions and names, so that the others here
say what they decide and not how gRPC spells it. Knows gRPC; nothing of pictures.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from grpc_status import rpc_status

from cascade.errors import MissingExtra, TransportError

try:
    from grpc_reflection.v1alpha import reflection
except ImportError as exc:
    raise MissingExtra(
        "the server's packages are not installed: pip install 'edge-cascade[server]'"
    ) from exc

Continuation = Callable[[Any], Awaitable[Any]]
Intercept = Callable[[Continuation, Any], Awaitable[Any]]
"""From what comes next and a call's details (method, metadata) to the call's handler, None where
there is none."""

WriteFailed = grpc.aio.InternalError
"""A message could not be written, most likely because the caller is gone."""
CallAborted = grpc.aio.AbortError
"""A handler has ended its call with a status."""

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
"""The four functions that a handler of gRPC's may have; every one has one of them."""
CODE_NAMES: dict[int, str] = {status.value[0]: status.name for status in grpc.StatusCode}
REFLECTION_SERVICE: str = reflection.SERVICE_NAME


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """A function in front of every handler."""

    def __init__(self, intercept: Intercept) -> None:
        """An interceptor.

        Args:
            intercept: called for every call.
        """
        self._intercept = intercept

    async def intercept_service(self, continuation: Continuation, details: Any) -> Any:
        """The handler of a call."""
        return await self._intercept(continuation, details)


def make_server(options: Sequence[tuple[str, int]], intercepts: Sequence[Intercept]) -> Any:
    """A server that does not listen yet; the first of `intercepts` is the outermost."""
    return grpc.aio.server(
        options=options, interceptors=[Interceptor(intercept) for intercept in intercepts]
    )


def add_service(server: Any, name: str, methods: Mapping[str, tuple[str, Any]]) -> None:
    """Add a service whose requests and responses are raw bytes.

    Args:
        server: as `make_server` returned it.
        name: full name of the service.
        methods: by name: one of `KINDS`, and the function.
    """
    handlers = {
        method: getattr(grpc, f"{kind}_rpc_method_handler")(function)
        for method, (kind, function) in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def add_reflection(server: Any, names: Sequence[str]) -> None:
    """Let tools ask which services there are."""
    reflection.enable_server_reflection(names, server)


def add_port(server: Any, target: str, credentials: Any) -> int:
    """Have a server listen on one address; returns its port.

    Args:
        server: as `make_server` returned it.
        target: `host:port` or `unix:PATH`.
        credentials: see `tls_credentials`; None for plaintext.

    Raises:
        TransportError: the address is taken, not of this machine, or not permitted.
    """
    try:
        if credentials is None:
            return int(server.add_insecure_port(target))
        return int(server.add_secure_port(target, credentials))
    except RuntimeError as exc:
        cause = "it is in use, not of this machine, or not permitted"
        raise TransportError(f"cannot listen on {target}: {cause}") from exc


def tls_credentials(
    first: Any, fetch: Callable[[], Any], *, requires_client_certificate: bool
) -> Any:
    """TLS credentials that gRPC asks for anew before every handshake.

    Args:
        first: as `tls_configuration` makes it.
        fetch: the same when it has changed, None when it has not.
        requires_client_certificate: whether a connection without one ends in the handshake.
            (Asking for one without requiring it is nothing that gRPC offers to Python.)
    """
    return grpc.dynamic_ssl_server_credentials(
        first, fetch, require_client_authentication=requires_client_certificate
    )


def tls_configuration(key: bytes, certificate: bytes, authorities: bytes | None) -> Any:
    """One state of the files of a server with TLS, all PEM."""
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)


def stream_handler(function: Any) -> Any:
    """A handler that takes the bytes of a call as a stream: nothing is received unless it reads."""
    return grpc.stream_stream_rpc_method_handler(function)


def kind_of(handler: Any) -> str:
    """Which of `KINDS` a handler of gRPC's has, as the field is called."""
    (kind,) = [kind for kind in KINDS if getattr(handler, kind) is not None]
    return kind


def code_of(context: Any) -> str:
    """The name of the status code that a call's handler set; OK where it set none."""
    code = context.code()
    return CODE_NAMES.get(
        code.value[0] if isinstance(code, grpc.StatusCode) else code or 0, "UNKNOWN"
    )


def to_status(status: Any) -> Any:
    """A google.rpc.Status as gRPC sends it: code, details and trailers."""
    return rpc_status.to_status(status)
