#!/bin/sh
# Whether gRPC's keepalive timeout ends a connection whose peer has fallen silent.
set -u
room=$(mktemp -d) || exit 2
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv" && "$room/venv/bin/pip" install --quiet grpcio==1.85.1 || exit 2
cat > "$room/silent.py" <<'PYTHON'
"""A peer that accepts a connection, answers so many pings, and then only listens."""
import socket
import struct
import sys
import threading
import time

import grpc

PREFACE, SETTINGS, PING, ACK = 24, 4, 6, 1


def frame(kind, flags, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, 0) + payload


def listen(pongs, times):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = listener.accept()
        begun = time.monotonic()
        with peer.makefile("rb") as stream:
            peer.sendall(frame(SETTINGS, 0, b""))
            stream.read(PREFACE)
            while len(head := stream.read(9)) == 9:
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if head[3] == SETTINGS and not head[4] & ACK:
                    peer.sendall(frame(SETTINGS, ACK, b""))
                if head[3] == PING and not head[4] & ACK:
                    times.append(round(time.monotonic() - begun, 1))
                    if len(times) <= pongs:
                        peer.sendall(frame(PING, ACK, payload))

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def call(name, pongs, allowed_s, *more):
    """Seconds until a call ends on a channel with a keepalive of 1 s and a timeout of 1 s."""
    times = []
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 1000), *more]
    begun = time.monotonic()
    with grpc.insecure_channel(listen(pongs, times), options) as channel:
        try:
            list(channel.unary_stream("/a/B")(b"", timeout=allowed_s))
            code, words = "OK", ""
        except grpc.RpcError as error:
            code, words = error.code().name, error.details()
    print(f"{name}: {code} ({words}) after {time.monotonic() - begun:.1f} s, pings at {times} s")
    return code == "UNAVAILABLE", len(times)


LIMIT = ("grpc.http2.ping_timeout_ms", 1000)
UNBOUNDED = ("grpc.http2.max_pings_without_data", 0)
print("grpcio", grpc.__version__)
print("keepalive_timeout_ms alone ends no connection: the time limit of a ping does, 60 s by default;")
print("and after two pings without data of its own a client sends one a minute, unless told otherwise.")
alone, _ = call("keepalive_timeout_ms", 0, 20)
limited, _ = call("and ping_timeout_ms", 0, 20, LIMIT)
late, few = call("silent after 5 pings", 5, 20, LIMIT)
always, many = call("and max_pings_without_data=0", 5, 40, LIMIT, UNBOUNDED)
sys.exit(0 if (alone, limited, late, always) == (False, True, False, True) and few < many else 1)
PYTHON
"$room/venv/bin/python" "$room/silent.py" 2> "$room/log"
end=$?
grep -q Traceback "$room/log" && cat "$room/log" && exit 2
exit "$end"
