#!/usr/bin/env bash
# grpcio, server: add_insecure_port("0.0.0.0:P") listens on every IPv6 address too: gRPC takes the wildcard of IPv4 for
# [::]. A server that is meant for IPv4 alone, behind a firewall for IPv4 alone, is open. Needs IPv6 on loopback.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "grpcio==1.85.1" >/dev/null 2>&1 || exit 2
cat > "$folder/wildcard.py" <<'PY'
import socket, sys
from concurrent.futures import ThreadPoolExecutor

import grpc

try:
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
except OSError as exc:
    print("not tried: no IPv6 on loopback:", exc)
    sys.exit(2)


def reachable(port):
    """Whether something listens there on IPv6."""
    try:
        socket.create_connection(("::1", port), 5).close()
    except OSError:
        return False
    return True


server = grpc.server(ThreadPoolExecutor(1))
port = server.add_insecure_port("0.0.0.0:0")
server.start()
by_grpc = reachable(port)
server.stop(0).wait()
with socket.create_server(("0.0.0.0", 0)) as plain:
    by_socket = reachable(plain.getsockname()[1])
print("python", sys.version.split()[0], "grpcio", grpc.__version__)
print("A gRPC server for 0.0.0.0 can be reached over IPv6; a socket for 0.0.0.0 cannot.")
print(f"  connect to [::1]: gRPC {'answers' if by_grpc else 'refused'}, socket {'answers' if by_socket else 'refused'}")
sys.exit(0 if by_grpc and not by_socket else 1)
PY
GRPC_VERBOSITY=NONE timeout 60 "$folder/venv/bin/python" "$folder/wildcard.py"
code=$?
[ "$code" -le 1 ] || exit 2
exit "$code"
