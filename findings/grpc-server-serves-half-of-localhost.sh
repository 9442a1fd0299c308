#!/usr/bin/env bash
# grpcio, server: add_insecure_port("localhost:P") succeeds while another program listens on 127.0.0.1:P: gRPC
# resolves the name to two addresses and is content with ::1 alone. Clients that try 127.0.0.1 reach the
# other program. Needs IPv6 on loopback.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "grpcio==1.85.1" >/dev/null 2>&1 || exit 2
cat > "$folder/half.py" <<'PY'
import socket, sys
from concurrent.futures import ThreadPoolExecutor

import grpc

try:
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
except OSError as exc:
    print("not tried: no IPv6 on loopback:", exc)
    sys.exit(2)


def open_at(address):
    """The port that a server gets there, or why none."""
    server = grpc.server(ThreadPoolExecutor(1), options=(("grpc.so_reuseport", 0),))
    try:
        return server.add_insecure_port(address)
    except RuntimeError as exc:
        return f"RuntimeError: {str(exc)[:60]}"
    finally:
        server.stop(0)


other = socket.create_server(("127.0.0.1", 0))
port = other.getsockname()[1]
got = {name: open_at(f"{name}:{port}") for name in ("127.0.0.1", "localhost")}
print("python", sys.version.split()[0], "grpcio", grpc.__version__)
print("A server for localhost starts although 127.0.0.1 of that port is another program's.")
for name, result in got.items():
    print(f"  add_insecure_port({name}:PORT) -> {'PORT' if result == port else result}".replace(str(port), "PORT"))
sys.exit(0 if got["localhost"] == port and got["127.0.0.1"] != port else 1)
PY
GRPC_VERBOSITY=NONE timeout 60 "$folder/venv/bin/python" "$folder/half.py"
code=$?
[ "$code" -le 1 ] || exit 2
exit "$code"
