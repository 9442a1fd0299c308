"""How a call ends that failed: the status with its details, and the pushback that gRPC obeys.

Knows gRPC's trailers; what an error says to its caller is `status`.
"""

import math
from typing import Any

from runtime_server.app.departures import sent_or_gone
from runtime_server.app.grpc_aio import to_status
from runtime_server.protocol.status import status_of

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailer that gRPC's own retries wait for; ours read RetryInfo, which says the same."""


async def refuse(context: Any, error: Exception, request_id: str = "") -> None:
    """End a call with an error; returns normally only where nobody is there to be told of it.

    Args:
        context: the servicer context of the call.
        error: anything that a handler raised.
        request_id: the caller's name of the request, empty when it is not known or not valid.
    """
    status = to_status(status_of(error, request_id))
    trailers = (*status.trailing_metadata, *pushback(error))
    # Not `abort_with_status`, which sends the trailers of the status alone.
    with sent_or_gone():
        await context.abort(status.code, status.details, trailers)


def pushback(error: Exception) -> tuple[tuple[str, str], ...]:
    """The trailer with the pause that an error asks for; none where it asks for none."""
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    if retry_after_s is None:
        return ()
    return ((PUSHBACK, str(math.ceil(1000 * retry_after_s))),)
