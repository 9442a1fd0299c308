"""Does the user-space link of `cascade bench` move bytes as the kernel's own shaper does?

    sudo python -m benchmarks.link_namespaces [--megabytes 1] [--rates 1 10 100] [--json FILE]

Two network namespaces and a pair of interfaces with `tbf` on both ends, and beside it the proxy at
the same rate: one transfer down of some size over each, in turns. Seconds of both, and what
arithmetic says. `tbf` knows no delay (`netem` does, where the kernel has it), so only rates are
compared. Needs root, `ip` and `tc`; changes nothing outside the namespaces, which it removes.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.link.proxy import LinkProxy
from bench.link.shape import LinkShape
from benchmarks.lib.record import write_record

NEAR, FAR = f"bench-near-{os.getpid()}", f"bench-far-{os.getpid()}"
NEAR_IP, FAR_IP = "10.201.0.1", "10.201.0.2"
PORT = 7999
SERVE = """
import socket, sys
size = int(sys.argv[1])
with socket.create_server((sys.argv[2], int(sys.argv[3]))) as listener:
    print("ready", flush=True)
    while True:
        one, _ = listener.accept()
        with one:
            one.sendall(bytes(size))
"""
FETCH = """
import socket, sys, time
begun = time.monotonic()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as one:
    got = 0
    while part := one.recv(1 << 16):
        got += len(part)
print(got, time.monotonic() - begun)
"""


def sh(*words: str) -> None:
    """One command that must succeed."""
    subprocess.run(words, check=True)


@contextmanager
def namespaces() -> Iterator[None]:
    """Two namespaces that see each other."""
    try:
        for name in (NEAR, FAR):
            sh("ip", "netns", "add", name)
        sh("ip", "-n", NEAR, "link", "add", "near", "type", "veth", "peer", "far", "netns", FAR)
        for name, end, address in ((NEAR, "near", NEAR_IP), (FAR, "far", FAR_IP)):
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", end)
            sh("ip", "-n", name, "link", "set", end, "up")
        yield
    finally:
        for name in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", name], check=False)


def shape_kernel(mbit_s: float) -> None:
    """`tbf` on both ends."""
    for name, end in ((NEAR, "near"), (FAR, "far")):
        words = ("root", "tbf", "rate", f"{mbit_s}mbit", "burst", "16kb", "latency", "200ms")
        sh("tc", "-n", name, "qdisc", "replace", "dev", end, *words)


@contextmanager
def server(size: int, host: str, prefix: tuple[str, ...] = ()) -> Iterator[None]:
    """A process that sends so many bytes to each connection."""
    command = [*prefix, sys.executable, "-c", SERVE, str(size), host, str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def fetch_in_kernel() -> float:
    """Seconds of one transfer between the namespaces."""
    command = ["ip", "netns", "exec", NEAR, sys.executable, "-c", FETCH, FAR_IP, str(PORT)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[1])


async def fetch_through_proxy(mbit_s: float, size: int) -> float:
    """Seconds of one transfer over loopback through the proxy."""
    proxy = LinkProxy(LinkShape(down_bit_s=1e6 * mbit_s), f"127.0.0.1:{PORT}")
    host, _, port = (await proxy.start()).rpartition(":")
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port))
    got = 0
    while part := await reader.read(1 << 16):
        got += len(part)
    took = time.monotonic() - begun
    writer.close()
    await proxy.close()
    assert got == size
    return took


def compare(mbit_s: float, size: int, rounds: int) -> dict[str, float]:
    """Medians of both ways, in turns."""
    shape_kernel(mbit_s)
    kernel: list[float] = []
    proxy: list[float] = []
    with server(size, FAR_IP, ("ip", "netns", "exec", FAR)), server(size, "127.0.0.1"):
        for _ in range(rounds):
            kernel.append(fetch_in_kernel())
            proxy.append(asyncio.run(fetch_through_proxy(mbit_s, size)))
    return {
        "mbit_s": mbit_s,
        "arithmetic_s": 8e-6 * size / mbit_s,
        "kernel_s": statistics.median(kernel),
        "proxy_s": statistics.median(proxy),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 10.0, 100.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    size = int(1e6 * args.megabytes)
    with namespaces():
        rows = [compare(rate, size, args.rounds) for rate in args.rates]
    print(f"{size:,} bytes down, medians of {args.rounds}")
    print(f"{'Mbit/s':>8}{'arithmetic s':>14}{'kernel s':>10}{'proxy s':>10}")
    for row in rows:
        figures = (row["arithmetic_s"], row["kernel_s"], row["proxy_s"])
        print(f"{row['mbit_s']:>8g}{figures[0]:>14.3f}{figures[1]:>10.3f}{figures[2]:>10.3f}")
    write_record(args.json, {"bytes": size, "rows": rows})


if __name__ == "__main__":
    main()
