"""Callers whose connection ends in the middle of a call: their own doing, and no fault of ours."""

import contextlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.faults.proxy import Proxy, proxy
from tests.faults.test_cancelling import SHALLOW
from tests.support.asking import LONG_STEPS, asking
from tests.support.certificates import Authority
from tests.support.server_process import Victim, victim
from tests.support.serving import SERVICE, Caller, connect, wait_until

GONE = 5
"""Callers of each kind. Whether gRPC tells of the write that failed or of the cancellation first is
chance: of as many it was always several times the write."""
FULL_AFTER_S = 0.4
"""Longer than a connection takes to fill up with previews; where it is not, less is tested."""
STARTED, HANDLED = "grpc_server_started_total", "grpc_server_handled_total"
ALERTS = (Path(__file__).parents[2] / "deploy" / "alerts.yml").read_text()
(FAULTS,) = (codes.split("|") for codes in re.findall(r'grpc_code=~"([^"]*)"', ALERTS))
"""Codes that somebody is woken for."""

FIN, RST = struct.pack("ii", 0, 0), struct.pack("ii", 1, 0)
"""SO_LINGER: how the kernel ends a connection."""

SILENT = """
import sys, time, grpc
options = (("grpc.http2.bdp_probe", 0),)
channel = grpc.insecure_channel(sys.argv[1], options)
call = channel.unary_stream("/cascade.v1.CascadeService/Generate")(sys.stdin.buffer.read())
next(call)
print("begun", flush=True)
time.sleep(600)
"""
"""A client that reads one message and then no more."""


def talkative(bundle: Bundle) -> Any:
    """A request whose previews fill up a connection that is not read."""
    return asking(bundle, LONG_STEPS, output=pb.OutputOptions(preview_every=1))


def fills_up(address: str, request: Any) -> Any:
    """A channel with a call that waits in a write: nobody reads it."""
    channel = grpc.insecure_channel(address, SHALLOW)
    call = Caller(channel).generate(request, timeout_s=None)
    next(call)
    time.sleep(FULL_AFTER_S)
    return channel, call


def reset(server: Victim) -> None:
    """RST in the middle of a stream."""
    with proxy(server.address) as between:
        channel, _ = fills_up(between.address, talkative(server.bundle))
        between.reset_all()
        channel.close()


def closed(server: Victim) -> None:
    """A client that closes its channel: GOAWAY and FIN, the stream unread."""
    channel, _ = fills_up(server.address, talkative(server.bundle))
    channel.close()


def cancelled(server: Victim) -> None:
    """RST_STREAM of one call on a connection that stays."""
    channel, call = fills_up(server.address, talkative(server.bundle))
    call.cancel()
    wait_until(lambda: server.is_idle)
    channel.close()


def killed(server: Victim) -> None:
    """SIGKILL of a client process that has unread bytes."""
    command = [sys.executable, "-c", SILENT, server.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(talkative(server.bundle).SerializeToString())
        client.stdin.close()
        assert client.stdout.readline() == b"begun\n"
        time.sleep(FULL_AFTER_S)
        client.send_signal(signal.SIGKILL)


def half_closed(server: Victim) -> None:
    """FIN of the client's direction alone, in the middle of a stream."""
    with (
        proxy(server.address, half_close_after_bytes=20_000) as between,
        connect(between.address) as caller,
    ):
        call = caller.generate(talkative(server.bundle), timeout_s=20)
        with pytest.raises(grpc.RpcError):
            list(call)


WAYS: dict[str, tuple[Callable[[Victim], None], int]] = {
    "reset": (reset, GONE),
    "closed": (closed, GONE),
    "cancelled": (cancelled, GONE),
    "killed": (killed, 2),
    "half closed": (half_closed, 2),
}


def loud_lines(server: Victim) -> list[Any]:
    """Lines of the log that somebody would have to read."""
    events = ("internal_error", "refused", "generate", "unauthenticated")
    entries = [entry for event in events for entry in server.log(event)]
    return [entry for entry in entries if entry["level"] not in ("info", "debug")]


def check_quiet(server: Victim, ended: int) -> None:
    """All calls are counted as ended, none as a fault, and no line is above info."""
    wait_until(lambda: server.total(HANDLED) >= ended)
    assert {code: server.total(HANDLED, grpc_code=code) for code in FAULTS} == dict.fromkeys(
        FAULTS, 0.0
    )
    assert loud_lines(server) == []
    assert [line for line in server.lines if not line.startswith("{")] == []


def test_a_caller_that_goes_away_is_cancelled(bundle: Bundle) -> None:
    """However its connection ends: Canceled in the metrics, `cancelled` at info in the log."""
    ended = 0
    with victim(bundle) as server:
        for leave, times in WAYS.values():
            for _ in range(times):
                leave(server)
                server.wait_until_idle()
                ended += 1
        check_quiet(server, ended)
        assert server.total(HANDLED, grpc_method="Generate", grpc_code="Canceled") == ended
        assert [entry["outcome"] for entry in server.log("generate")] == ["cancelled"] * ended
        assert server.total("cascade_stopped_total", code="Canceled") == ended
        assert server.total("cascade_stage_failures_total", code="Internal") == 0


def in_the_upload(bundle: Bundle, between: Proxy) -> None:
    """A request of megabytes on a narrow line, torn before its end."""
    between.weather.bytes_per_s = 2_000_000
    with connect(between.address) as caller:
        call = caller.generate(b"\xff" * (4 << 20), timeout_s=20)
        time.sleep(0.2)
        between.reset_all()
        with pytest.raises(grpc.RpcError):
            list(call)


def before_the_answer(bundle: Bundle, between: Proxy) -> None:
    """Calls of every kind, good and bad, torn in the moment after they were sent."""
    with connect(between.address) as caller:
        caller.server_info()
        good = asking(bundle).SerializeToString()
        calls = [caller.generate(data, timeout_s=20) for data in (b"\xff\xff", good) * 20]
        unary = [
            caller.channel.unary_unary(SERVICE + method).future(data, timeout=20)
            for method, data in (("GetServerInfo", b""), ("PutContext", b"\xff\xff")) * 20
        ]
        time.sleep(random.uniform(0, 0.03))
        between.reset_all()
        for call in (*calls, *unary):
            call.exception()


def test_a_torn_upload_or_answer_is_no_fault(bundle: Bundle) -> None:
    """Nothing of it is above info; every call that arrived is counted as ended."""
    with victim(bundle) as server:
        for tear in (in_the_upload, before_the_answer):
            for _ in range(GONE):
                with proxy(server.address) as between:
                    tear(bundle, between)
        server.wait_until_idle()
        wait_until(lambda: server.total(STARTED) == server.total(HANDLED))
        check_quiet(server, 0)


GARBAGE = (
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(64)),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
)
"""Nothing, HTTP/1, a TLS greeting, frames that are none, and a connection that asks for nothing."""


def send_and_leave(address: str, data: bytes, ending: bytes) -> None:
    """A plain connection that sends some bytes and ends with FIN or RST."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(data)
        stranger.settimeout(0.05)
        with contextlib.suppress(OSError):
            stranger.recv(4096)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ending)


@pytest.mark.parametrize("protected", [False, True])
def test_strangers_at_the_socket_write_no_line(
    bundle: Bundle, tmp_path: Path, *, protected: bool
) -> None:
    """Malformed HTTP/2, handshakes that fail, connections that say nothing: no line, no count."""
    authority = Authority(tmp_path, "ours")
    pair = authority.issue("server")
    tls = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    with victim(bundle, *(tls if protected else ())) as server:
        lines = len(server.lines)
        for data in GARBAGE:
            for ending in (FIN, RST):
                send_and_leave(server.address, data, ending)
        if protected:
            other = Authority(tmp_path, "theirs").certificate.read_bytes()
            strangers = grpc.ssl_channel_credentials(other)
            with (
                grpc.secure_channel(server.address, strangers) as channel,
                pytest.raises(grpc.RpcError),
            ):
                Caller(channel).server_info()
        server.wait_until_idle()
        assert [line for line in server.lines[lines:] if "rows_measured" not in line] == []
        assert server.total(STARTED) == 0
        assert server.process.poll() is None
