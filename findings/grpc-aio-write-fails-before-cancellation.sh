#!/usr/bin/env bash
# grpcio, asyncio server: when a client's connection is torn while a handler waits in context.write, the handler may
# get an ExecuteBatchError instead of a CancelledError; the cancellation follows. Taken as it comes, a
# client that goes away looks like a fault of the server's. A status that is being sent then fails
# without any cancellation.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "grpcio==1.85.1" >/dev/null 2>&1 || exit 2
cat > "$folder/torn.py" <<'PY'
import asyncio, collections, socket, struct, sys, time
import grpc

RESET = struct.pack("ii", 1, 0)
TRIES = 20
seen = collections.Counter()


async def handle(request, context):
    try:
        while True:
            await context.write(b"x" * 4096)
    except BaseException as first:
        then = "nothing within 3 s"
        if not isinstance(first, asyncio.CancelledError):
            try:
                await asyncio.sleep(3)
            except asyncio.CancelledError:
                then = "CancelledError"
            seen[f"{type(first).__name__}, then {then}"] += 1
        else:
            seen["CancelledError"] += 1
        raise


async def relay(target, broken):
    """A connection that is torn with RST once `broken` is set."""

    async def pump(reader, writer):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()

    async def accept(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        pumps = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
        await broken.wait()
        for one in (writer, far_writer):
            one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.transport.abort()
        await asyncio.gather(*pumps, return_exceptions=True)

    return await asyncio.start_server(accept, "127.0.0.1", 0)


async def main():
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(handle)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for _ in range(TRIES):
        broken = asyncio.Event()
        between = await relay(port, broken)
        address = f"127.0.0.1:{between.sockets[0].getsockname()[1]}"
        options = (("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = channel.unary_stream("/a.B/C")(b"")
            await call.read()
            await asyncio.sleep(0.2)  # nobody reads: the handler waits in a write
            broken.set()
            await asyncio.sleep(0.1)
            call.cancel()
        between.close()
    await asyncio.sleep(0.5)
    await server.stop(0)


asyncio.run(asyncio.wait_for(main(), 120))
print("python", sys.version.split()[0], "grpcio", grpc.__version__)
print("A handler whose stream is torn under a write is told of the write first, at times, and cancelled after it.")
for what, times in seen.most_common():
    print(f"  {times:3} of {TRIES}: {what}")
sys.exit(0 if seen["ExecuteBatchError, then CancelledError"] else 1)
PY
GRPC_VERBOSITY=NONE timeout 150 "$folder/venv/bin/python" "$folder/torn.py"
code=$?
[ "$code" -le 1 ] || exit 2
exit "$code"
