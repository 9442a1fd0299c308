"""Waits of Poisson arrivals at a real server process, beside what the simulation says of them.

The server hosts every component on a private Unix socket; requests come from the product's own
client with nothing on the device. Knows processes and clocks; the policies are known elsewhere.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.policy_simulation import Waits, one_at_a_time, poisson, step_joining, waits
from benchmarks.lib.stage_timings import measure_timings
from cascade.bundle.bundle import open_bundle
from cascade.request import GenerateRequest
from cascade.stage_factory import last_position
from runtime_client import Client

PROMPT = "a red apple, noto style"
TIMEOUT_S = 600.0
LONE_RUNS = 5
LIMITS = (
    *("--max-queued-per-stage", "1000", "--max-in-flight", "1000"),
    *("--max-in-flight-per-identity", "1000", "--max-in-flight-bytes", str(1 << 40)),
)
"""Nobody is refused: what is measured is waiting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitsTrial:
    """What is asked of the server."""

    bundle: Path
    loads: Sequence[float]
    requests: int
    """Of each run."""
    rows: int
    """That share runs in the second server; the first runs them one by one."""
    threads: int
    last_stage: str
    """Where requests end; empty for the cascade's end."""


@contextmanager
def served(trial: WaitsTrial, rows: int) -> Iterator[str]:
    """A server's address for the length of a `with` block."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/s"
        command = [
            sys.executable,
            "-m",
            "cascade.commands.cli",
            "serve",
            "--bundle",
            str(trial.bundle),
        ]
        command += ["--listen", address, "--threads", str(trial.threads)]
        command += ["--max-batch-rows", str(rows), *LIMITS]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until_listening(process)
                drain = ThreadPoolExecutor(1)
                drain.submit(process.stderr.read)  # type: ignore[union-attr]
                yield address
                process.terminate()
                process.wait(timeout=60)
                drain.shutdown()
            finally:
                process.kill()


def wait_until_listening(process: "subprocess.Popen[str]") -> None:
    """Read the server's log up to the line that says so."""
    for line in process.stderr or ():
        if line.startswith("{") and json.loads(line)["event"] == "listening":
            return
    raise RuntimeError("the server ended before it listened")


def latency_s(client: Client, trial: WaitsTrial, seed: int, at: float) -> float:
    """Seconds from the time that a request was due to its end."""
    time.sleep(max(0.0, at - time.monotonic()))
    client.run(GenerateRequest(prompt=PROMPT, seed=seed, last_stage=trial.last_stage or None))
    return time.monotonic() - at


def real_waits(trial: WaitsTrial, rows: int) -> dict[str, Any]:
    """One server: what a request takes alone, and the waits at every load."""
    with (
        served(trial, rows) as address,
        Client(trial.bundle, server=address, cut=0, timeout_s=TIMEOUT_S) as client,
    ):
        lone = [latency_s(client, trial, n, time.monotonic()) for n in range(LONE_RUNS)]
        alone_s = statistics.median(lone[1:])
        found: dict[str, Any] = {"alone_s": alone_s, "loads": {}}
        for load in trial.loads:
            arrivals = poisson(alone_s, load, trial.requests)
            begun = time.monotonic() + 0.1
            with ThreadPoolExecutor(trial.requests) as pool:
                futures = [
                    pool.submit(latency_s, client, trial, n, begun + at)
                    for n, at in enumerate(arrivals)
                ]
            latencies = [future.result() for future in futures]
            ends = [at + s for at, s in zip(arrivals, latencies, strict=True)]
            found["loads"][f"{load:g}"] = asdict(waits(arrivals, ends, alone_s))
    return found


def compare_with_server(trial: WaitsTrial) -> dict[str, Any]:
    """Rows one by one and sharing runs: served, and simulated with this machine's step times."""
    manifest = open_bundle(trial.bundle).manifest
    last = last_position(manifest, trial.last_stage or None)
    found: dict[str, Any] = {}
    for name, rows, policy in (
        ("one by one", 1, one_at_a_time),
        ("sharing runs", trial.rows, step_joining),
    ):
        timings = measure_timings(
            trial.bundle, first=1, threads=trial.threads, last=last, max_rows=rows
        )
        real = real_waits(trial, rows)
        alone_s = sum(timing.alone_s for timing in timings)
        simulated = {}
        for load in trial.loads:
            # The same arrivals in units of a lone request: a server's own overhead is in its unit.
            arrivals = poisson(alone_s, load, trial.requests)
            simulated[f"{load:g}"] = asdict(waits(arrivals, policy(arrivals, timings), alone_s))
        found[name] = {
            "real": real,
            "simulated": {"alone_s": alone_s, "loads": simulated},
            "timings": [asdict(timing) for timing in timings],
        }
    return found


def print_comparison(figures: dict[str, Any]) -> None:
    """One line per server, load and world; waits in units of a lone request."""
    print(f"{'rows':13} {'load':>5} {'':10} {'alone s':>8} {'p50':>7} {'p95':>7} {'p99':>7}")
    for name, worlds in figures.items():
        for load in worlds["real"]["loads"]:
            for world in ("real", "simulated"):
                alone_s = worlds[world]["alone_s"]
                w = Waits(**worlds[world]["loads"][load])
                shares = " ".join(f"{s / alone_s:7.2f}" for s in (w.p50_s, w.p95_s, w.p99_s))
                print(f"{name:13} {load:>5} {world:10} {alone_s:8.3f} {shares}")
