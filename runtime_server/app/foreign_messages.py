"""Bytes that are no message, sent to services that are not ours: health checks and reflection.

Their packages let gRPC parse, which answers UNKNOWN with the exception's text, counts as a fault of
the server's or is not counted at all. Here they get the answer that our own service gives. Knows
gRPC; not what the messages are.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from cascade.errors import InvalidRequest
from runtime_server.app.grpc_aio import Continuation, kind_of
from runtime_server.app.refusal import refuse

Parse = Callable[[bytes], Any]


class ForeignMessages:
    """Parses for handlers that want messages rather than bytes."""

    async def intercept(self, continuation: Continuation, details: Any) -> Any:
        """The handler of a call; one with a parser gets the message from here."""
        handler = await continuation(details)
        # Ours take bytes and parse them where errors become statuses.
        if handler is None or handler.request_deserializer is None:
            return handler
        kind = kind_of(handler)
        behaviour = parsing(getattr(handler, kind), handler.request_deserializer)
        return handler._replace(request_deserializer=None, **{kind: behaviour})


def parsing(behaviour: Any, parse: Parse) -> Any:
    """A handler's function for bytes instead of messages; of the same kind as it was."""
    if inspect.isasyncgenfunction(behaviour):

        async def stream(requests: Any, context: Any) -> AsyncIterator[Any]:
            async for response in behaviour(all_parsed(requests, parse, context), context):
                yield response

        return stream

    async def answer(data: bytes, context: Any) -> Any:
        return await behaviour(await parsed(data, parse, context), context)

    return answer


async def all_parsed(requests: Any, parse: Parse, context: Any) -> AsyncIterator[Any]:
    """The messages of a stream."""
    async for data in requests:
        yield await parsed(data, parse, context)


async def parsed(data: bytes, parse: Parse, context: Any) -> Any:
    """The message in some bytes; ends the call where there is none.

    Raises:
        CallAborted: the call has been ended.
    """
    try:
        return parse(data)
    except DecodeError:
        text = f"message: these {len(data)} bytes are not a message of this method"
        error = InvalidRequest(text, field="message")
    return await refuse(context, error)
