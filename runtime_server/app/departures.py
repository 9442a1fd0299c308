"""Callers that go away while they are written to: no fault of the server's.

When a stream closes under a write, gRPC's asyncio server reports two things in no fixed order: the
write that failed, and the cancellation of the handler. When it closes under a status, the write
alone. Knows gRPC's errors; not what was written.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from runtime_server.app.grpc_aio import WriteFailed

CANCELLED_WITHIN_S = 5.0
"""A write that failed for another reason is told as what it is, so much later."""


@asynccontextmanager
async def cancelled_if_gone() -> AsyncIterator[None]:
    """Around a message to a caller: where the caller is gone, only a cancellation comes out.

    Raises:
        asyncio.CancelledError: the caller is gone, or its time is over.
        WriteFailed: a write failed, and the call goes on.
    """
    try:
        yield
    except WriteFailed:
        # Where the caller is gone, the cancellation ends this sleep.
        await asyncio.sleep(CANCELLED_WITHIN_S)
        raise


@contextmanager
def sent_or_gone() -> Iterator[None]:
    """Around the end of a call: a status that nobody is there to take is as good as sent.

    gRPC has noted its code before it tries, and does not cancel a handler that has ended its call.
    """
    with suppress(WriteFailed):
        yield
