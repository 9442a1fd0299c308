"""What does joining between steps gain, and does it ever lose? Three policies on the same arrivals.

    python -m benchmarks.batching_policy [--requests 1000] [--json FILE] [--plot FILE]
    python -m benchmarks.batching_policy --real [--bundle B] [--loads 0.5 0.8] [--json FILE]

Poisson arrivals at 50 to 120 % of what one request at a time could serve. The wait is what a
request takes longer than it would alone. Step times: of a GPU as published, in a case that gains
from batches, one that does not, and a cascade of both; and of this machine, measured at the start
with made-up inputs (`--measured FILE` takes them from an earlier record). With `--real` the same
arrivals also go to a real server process, its rows one by one and sharing runs, beside the
simulation with the step times of this machine.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.lib.policy_simulation import (
    Policy,
    StageTiming,
    Waits,
    WholeRequests,
    one_at_a_time,
    poisson,
    step_joining,
    waits,
)
from benchmarks.lib.record import write_record
from benchmarks.lib.stage_timings import measure_timings
from benchmarks.served_waits import WaitsTrial, compare_with_server, print_comparison

SOURCE = (
    "https://github.com/sgl-project/sglang/pull/22183, comment of 2026-04-10: Qwen-Image, "
    "50 steps, H200, bf16, torch.compile; seconds per step by batch"
)
GPU_512 = {1: 0.167, 2: 0.183, 3: 0.186, 4: 0.240, 8: 0.425, 16: 0.832}
"""512x512: not saturated by one picture."""
GPU_1024 = {1: 0.243, 2: 0.474, 3: 0.711}
"""1024x1024: saturated by one."""
HOST_512_S, HOST_1024_S = 0.004, 0.015
"""Host work of a step at these sizes, docs/decisions/0013-host-share.md."""
GPU: Mapping[str, Sequence[StageTiming]] = {
    "GPU, gains": [StageTiming(name="512", steps=50, run_s=GPU_512, host_s=HOST_512_S)],
    "GPU, gains nothing": [StageTiming(name="1024", steps=50, run_s=GPU_1024, host_s=HOST_1024_S)],
    "GPU, cascade": [
        StageTiming(name="512", steps=20, run_s=GPU_512, host_s=HOST_512_S),
        StageTiming(name="1024", steps=8, run_s=GPU_1024, host_s=HOST_1024_S),
    ],
}
LOADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
DELAY_SHARE = 0.05
"""A whole-request batch waits this share of a request's own time for others."""
BATCH = 8
"""Requests of such a batch at most."""
Table = dict[str, dict[str, dict[str, float]]]
"""Policy to load to figures."""


def policies_for(alone_s: float) -> dict[str, Policy]:
    """The three, by name."""
    return {
        "one at a time": one_at_a_time,
        "whole requests": WholeRequests(size=BATCH, delay_s=DELAY_SHARE * alone_s),
        "step joining": step_joining,
    }


def simulate(timings: Sequence[StageTiming], loads: Sequence[float], requests: int) -> Table:
    """Every policy at every load."""
    alone_s = sum(timing.alone_s for timing in timings)
    table: Table = {}
    for name, policy in policies_for(alone_s).items():
        for load in loads:
            arrivals = poisson(alone_s, load, requests)
            figures = waits(arrivals, policy(arrivals, timings), alone_s)
            table.setdefault(name, {})[f"{load:g}"] = asdict(figures)
    return table


def print_timings(name: str, timings: Sequence[StageTiming]) -> None:
    """What a case is made of."""
    print(f"\n{name}")
    for s in timings:
        runs = ", ".join(f"{n}: {1000 * t:.1f}" for n, t in sorted(s.run_s.items()))
        print(
            f"  {s.name}: {s.steps} steps, ms of a run by rows {runs}; host {1000 * s.host_s:.1f}; "
            f"rows share runs up to {s.cap}"
        )


def print_table(table: Table) -> None:
    """One line per load and policy."""
    print(f"  {'load':>5} {'policy':15} {'p50 s':>9} {'p95 s':>9} {'p99 s':>9} {'goodput':>8}")
    loads = list(next(iter(table.values())))
    for load in loads:
        for policy, by_load in table.items():
            w = Waits(**by_load[load])
            print(
                f"  {load:>5} {policy:15} {w.p50_s:9.3f} {w.p95_s:9.3f} {w.p99_s:9.3f} "
                f"{100 * w.goodput:7.1f}%"
            )


def claims(table: Table, timings: Sequence[StageTiming]) -> dict[str, float]:
    """What step joining does to the p95 against one request at a time.

    Returns:
        `p95_wait_ratio_at_80`, and `worst_loss`: the largest share by which its p95 latency is
        longer at any load, 0 for none.
    """
    ours, theirs = table["step joining"], table["one at a time"]
    wait = theirs["0.8"]["p95_s"] if "0.8" in theirs else 0.0
    return {
        "p95_wait_ratio_at_80": ours["0.8"]["p95_s"] / wait if wait else 0.0,
        "worst_loss": max(
            0.0, *(ours[n]["latency_p95_s"] / theirs[n]["latency_p95_s"] - 1 for n in ours)
        ),
        "rows": max(timing.cap for timing in timings),
    }


def read_timings(path: Path) -> list[StageTiming]:
    """The step times of this machine from an earlier record."""
    kept = json.loads(path.read_text())["cases"]["this machine"]["timings"]
    return [StageTiming(**{**s, "run_s": {int(n): t for n, t in s["run_s"].items()}}) for s in kept]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--measured", type=Path, help="an earlier record of this machine")
    parser.add_argument("--requests", type=int, default=1000, help="of each simulation")
    parser.add_argument("--loads", type=float, nargs="+", default=list(LOADS))
    parser.add_argument("--real", action="store_true", help="also against a real server")
    parser.add_argument("--real-requests", type=int, default=60, help="of each run against it")
    parser.add_argument("--last-stage", default="", help="where the real requests end")
    parser.add_argument(
        "--rows", type=int, default=4, help="--max-batch-rows of the server that shares"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the server's engines")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG of the waits")
    return parser.parse_args()


def main() -> None:
    """Simulate, perhaps serve, print."""
    args = parse_arguments()
    if args.real:
        trial = WaitsTrial(
            bundle=args.bundle,
            loads=args.loads,
            requests=args.real_requests,
            rows=args.rows,
            threads=args.threads,
            last_stage=args.last_stage,
        )
        figures = compare_with_server(trial)
        print_comparison(figures)
        write_record(args.json, {"real": figures})
        return
    here = (
        read_timings(args.measured)
        if args.measured
        else measure_timings(args.bundle, first=2, threads=args.threads)
    )
    print(f"GPU step times: {SOURCE}")
    record: dict[str, dict[str, Any]] = {}
    for name, timings in {**GPU, "this machine": here}.items():
        table = simulate(timings, args.loads, args.requests)
        print_timings(name, timings)
        print_table(table)
        found = claims(table, timings)
        print(
            f"  step joining against one at a time: p95 wait at 80 % load "
            f"{found['p95_wait_ratio_at_80']:.2f} times, p95 latency at worst "
            f"{100 * found['worst_loss']:.2f} % longer"
        )
        record[name] = {
            "timings": [asdict(timing) for timing in timings],
            "policies": table,
            "claims": found,
        }
    if args.plot:
        from benchmarks.lib.plots import plot_waits  # noqa: PLC0415  matplotlib is an extra

        plot_waits({name: case["policies"] for name, case in record.items()}, args.plot)
    write_record(args.json, {"source": SOURCE, "requests": args.requests, "cases": record})


if __name__ == "__main__":
    main()
