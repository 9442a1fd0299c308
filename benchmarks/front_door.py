"""What do auth, admission and metrics cost per request, and how soon is a server ready?

    python -m benchmarks.front_door [--requests 2000] [--starts 5] [--json FILE]

Three servers at once take turns request by request, so that a drifting machine hits all: a bare
one of grpc.aio that parses nothing and answers the same bytes; ours as it starts on loopback; ours
with a bearer token, a quota, a bound per caller, the operator's port and its metrics. Two requests:
GetServerInfo, which is the door alone, and a Generate of the tiny bundle's first component, which
is admission and queue as well. Ready is from the start of the process to its `listening` line,
which comes after the warm-up of the reference bundle.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from tests.support.asking import asking
from tests.support.server_process import Victim, victim
from tests.support.serving import CHANNEL_OPTIONS, SERVICE
from tests.support.tiny_bundle import write_tiny_bundle

WARM_UP = 100
QUOTA = "1000000"
"""Megapixels a minute: checked for every request and never used up."""
PERCENTILES = (50, 99)
Call = Callable[[bytes], list[bytes]]


@dataclass
class Door:
    """One server and what calls to it took.

    Attributes:
        name: for the table.
        address: where it listens.
        token: of the caller, empty for none.
        seconds: by method.
    """

    name: str
    address: str
    token: str = ""
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def open(self, channel: Any) -> dict[str, Call]:
        """Its two methods as functions from bytes to all answers."""
        metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        info = channel.unary_unary(SERVICE + "GetServerInfo")
        generate = channel.unary_stream(SERVICE + "Generate")
        return {
            "GetServerInfo": lambda data: [info(data, timeout=30, metadata=metadata)],
            "Generate": lambda data: list(generate(data, timeout=30, metadata=metadata)),
        }


async def serve_bare(answers: dict[str, list[bytes]]) -> None:
    """A server that answers without looking, until its standard input ends."""

    async def info(data: bytes, context: Any) -> bytes:
        del data, context
        return answers["GetServerInfo"][0]

    async def generate(data: bytes, context: Any) -> None:
        del data
        for message in answers["Generate"]:
            await context.write(message)

    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    methods = {
        "GetServerInfo": grpc.unary_unary_rpc_method_handler(info),
        "Generate": grpc.unary_stream_rpc_method_handler(generate),
    }
    handler = grpc.method_handlers_generic_handler(SERVICE.strip("/"), methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


@contextmanager
def bare_server(answers: dict[str, list[bytes]]) -> Iterator[str]:
    """The bare one as a child; its address."""
    told = {method: [message.hex() for message in found] for method, found in answers.items()}
    code = f"from benchmarks.front_door import be_bare; be_bare({told!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        yield child.stdout.readline().strip()
        child.stdin.close()


def be_bare(told: dict[str, list[str]]) -> None:
    """The child's whole life."""
    answers = {name: [bytes.fromhex(m) for m in messages] for name, messages in told.items()}
    asyncio.run(serve_bare(answers))


def make_token(folder: Path) -> tuple[str, Path]:
    """A token and the server's file of it, made with the product's own command."""
    command = [sys.executable, "-m", "cascade", "token", "bench"]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    path = folder / "keys.toml"
    path.write_text(made.stderr.splitlines()[-1] + "\n")
    return made.stdout.strip(), path


def take_turns(doors: list[Door], bundle: Bundle, requests: int) -> None:
    """Time every door, one request after another."""
    with ExitStack() as stack:
        calls = []
        for door in doors:
            channel = grpc.insecure_channel(door.address, CHANNEL_OPTIONS)
            calls.append(door.open(stack.enter_context(channel)))
        for number in range(WARM_UP + requests):
            for door, methods in zip(doors, calls, strict=True):
                for method, call in methods.items():
                    data = body(method, bundle)
                    begun = time.perf_counter()
                    call(data)
                    took_s = time.perf_counter() - begun
                    if number >= WARM_UP:
                        door.seconds.setdefault(method, []).append(took_s)


def body(method: str, bundle: Bundle) -> bytes:
    """A request of each method."""
    if method == "GetServerInfo":
        return b""
    return bytes(asking(bundle, last_stage="text_encoder").SerializeToString())


def measure_doors(folder: Path, requests: int) -> dict[str, Any]:
    """Percentiles per door and method, milliseconds."""
    bundle = write_tiny_bundle(folder / "bundle")
    token, keys = make_token(folder)
    guards = ("--token-keys", str(keys), "--quota-megapixels-per-minute", QUOTA)
    with (
        victim(bundle, "--metrics-listen", "") as plain,
        victim(bundle, *guards) as guarded,
        grpc.insecure_channel(plain.address) as channel,
    ):
        methods = Door("plain", plain.address).open(channel)
        answers = {name: call(body(name, bundle)) for name, call in methods.items()}
        with bare_server(answers) as address:
            doors = [
                Door("bare gRPC", address),
                Door("plain", plain.address),
                Door("guarded", guarded.address, token),
            ]
            take_turns(doors, bundle, requests)
    return {
        door.name: {
            method: {f"p{p}_ms": 1000 * float(np.percentile(s, p)) for p in PERCENTILES}
            for method, s in door.seconds.items()
        }
        for door in doors
    }


def ready_seconds(folder: Path, starts: int) -> list[float]:
    """Seconds from the start of a process to its `listening` line."""
    bundle = open_bundle(folder)
    found = []
    for _ in range(starts):
        begun = time.monotonic()
        server = Victim(bundle, "--threads", "0")
        try:
            server.wait_until_listening()
            found.append(time.monotonic() - begun)
        finally:
            server.kill()
    return found


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--requests", type=int, default=2000, help="of each kind to each server")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        doors = measure_doors(Path(folder), args.requests)
    starts = ready_seconds(args.bundle, args.starts)
    print(f"{args.requests} requests of each kind to each server, in turns; milliseconds")
    print(f"{'':14} {'p50':>8} {'p99':>8}")
    for method in ("GetServerInfo", "Generate"):
        print(method)
        for name, figures in doors.items():
            row = figures[method]
            print(f"  {name:12} {row['p50_ms']:8.3f} {row['p99_ms']:8.3f}")
        for base in ("plain", "bare gRPC"):
            added = [doors["guarded"][method][k] - doors[base][method][k] for k in row]
            print(f"  over {base:10} {added[0]:5.3f} {added[1]:8.3f}")
    print(f"ready after  {np.median(starts):.2f} s, {min(starts):.2f} to {max(starts):.2f} s")
    write_record(args.json, {"doors": doors, "ready_s": starts, "requests": args.requests})


if __name__ == "__main__":
    main()
