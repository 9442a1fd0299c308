#!/usr/bin/env bash
# grpcio-health-checking, asyncio server: bytes that are no message are answered UNKNOWN with the text of a Python
# exception, and an interceptor that wraps the handler never sees the call: the parser runs before it. Whoever
# counts calls in an interceptor misses these, and UNKNOWN reads as the server's own fault.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "grpcio==1.85.1" "grpcio-health-checking==1.85.1" "protobuf==7.36.2" >/dev/null 2>&1 || exit 2
cat > "$folder/garbage.py" <<'PY'
import asyncio, sys
from importlib.metadata import version

import grpc
from grpc_health.v1 import health, health_pb2_grpc

METHOD = "/grpc.health.v1.Health/Check"
counted = []


class Counting(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, details):
        handler = await continuation(details)

        async def counts(request, context):
            counted.append(details.method)
            return await handler.unary_unary(request, context)

        return handler._replace(unary_unary=counts)


async def main():
    server = grpc.aio.server(interceptors=(Counting(),))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.unary_unary(METHOD)(b"", timeout=10)
        before = len(counted)
        try:
            await channel.unary_unary(METHOD)(b"\xff\xff", timeout=10)
            code, text = "OK", ""
        except grpc.aio.AioRpcError as exc:
            code, text = exc.code().name, exc.details()
    await server.stop(0)
    return code, text, before, len(counted)


code, text, before, after = asyncio.run(main())
print("python", sys.version.split()[0], *(f"{name} {version(name)}" for name in ("grpcio", "grpcio-health-checking")))
print("Bytes that are no message are UNKNOWN, and an interceptor around the handler does not see them.")
print(f"  a good call: counted {before}; garbage: {code} {text[:70]!r}, counted {after - before}")
sys.exit(0 if code == "UNKNOWN" and before == 1 and after == 1 else 1)
PY
timeout 60 "$folder/venv/bin/python" "$folder/garbage.py"
code=$?
[ "$code" -le 1 ] || exit 2
exit "$code"
