"""A TCP link that breaks its first connection, to watch a client resume.

    python examples/flaky_link.py --listen 127.0.0.1:7861 --server 127.0.0.1:7860

Forwards every connection to the server. The first one is reset after `--break-after` bytes from the
server; later ones are left alone. TLS passes through unread. Ctrl-C or SIGTERM ends it.
"""

import argparse
import asyncio
import contextlib
import json
import signal
from asyncio import StreamReader, StreamWriter


async def copy(source: StreamReader, sink: StreamWriter, limit: float) -> bool:
    """Copy at most `limit` bytes of one direction; True if the source ended before that."""
    copied = 0
    while data := await source.read(4096):
        copied += len(data)
        if copied > limit:
            return False
        sink.write(data)
        await sink.drain()
    return True


async def serve(listen: str, target: str, break_after: int) -> None:
    """Forward connections until a signal comes."""
    limits = iter([break_after])

    async def forward(reader: StreamReader, writer: StreamWriter) -> None:
        limit = next(limits, float("inf"))
        server_reader, server_writer = await asyncio.open_connection(*target.rsplit(":", 1))
        upward = asyncio.create_task(copy(reader, server_writer, float("inf")))
        with contextlib.suppress(OSError):  # one side is gone; the other one is reset below
            if not await copy(server_reader, writer, limit):
                print(f"broken after {break_after} bytes", flush=True)
        upward.cancel()
        writer.transport.abort()
        server_writer.transport.abort()

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(forward, *listen.rsplit(":", 1))
    host, port = server.sockets[0].getsockname()[:2]
    print(json.dumps({"event": "listening", "address": f"{host}:{port}"}), flush=True)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:7861", help="host:port of the link")
    parser.add_argument("--server", default="127.0.0.1:7860", help="host:port of the server")
    parser.add_argument("--break-after", type=int, default=60_000, metavar="BYTES")
    options = parser.parse_args()
    asyncio.run(serve(options.listen, options.server, options.break_after))
