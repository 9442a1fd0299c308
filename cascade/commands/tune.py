"""`cascade tune`: which engine runs each component of a bundle fastest on this machine.

Every installed engine in every precision that the bundle holds, and in the half precisions that the
processor has instructions for, each in a process of its own, in turns, on the shapes of the
defaults. Knows bundles and trials; the record it writes is what `--engine auto` reads.
"""

import argparse
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import add_bundle_argument, bundle_or_default
from cascade.engines.kinds import EngineKind, installed_kinds
from cascade.errors import CascadeError, InvalidRequest
from cascade.family import ComponentSpec
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.system.processor import this_processor
from cascade.system.user_cache import required_cache_folder
from cascade.tuning.dummy_inputs import default_batch
from cascade.tuning.plan import auto_precisions, file_precisions
from cascade.tuning.records import Measurement, Tuning, read_tuning, tuning_key, write_tuning
from cascade.tuning.worker import Order, Trial

DEFAULT_SECONDS = 20.0
MOST_SECONDS = 3600.0
MOST_THREADS = 1024
"""As of every command: engines start them all, whatever the machine has."""
LEAST_ROUNDS, MOST_ROUNDS = 3, 50
WARM_UP = 2
LARGEST_DIFFERENCE = 0.25
"""Relative RMS of one step against float32: beyond it an engine is broken, not merely coarse."""
LARGEST_UNPROVEN = 0.05
"""The same for a precision without a file, whose pictures no exporter has compared. The reference
stages are at 0.01 to 0.04 in bfloat16, and their pictures 46 to 56 dB from float32."""
REFERENCE = (EngineKind.ORT, Precision.FP32)
TITLES = ("component", "engine", "prec", "batch", "step_ms", "p10..p90", "load_s", "diff", "note")
COLUMNS = "{:14} {:13} {:5} {:>5} {:>9} {:>19} {:>7} {:>9}  {}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How hard to measure."""

    threads: int
    seconds: float
    """Per component, loading not counted."""
    cache: Path


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    words = "measure which engine runs each component fastest here, for --engine auto"
    parser = subparsers.add_parser("tune", help=words, description=words)
    add = parser.add_argument
    add_bundle_argument(parser)
    add(
        "--threads",
        type=int,
        default=0,
        help="threads of one run; 0 is one per core allowed (default: 0)",
    )
    add("--seconds", type=float, default=DEFAULT_SECONDS, help="time to run each component (20)")
    add("--component", nargs="+", metavar="NAME", help="measure only these anew (default: all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and keep the record."""
    if not 0 <= args.seconds <= MOST_SECONDS:
        raise InvalidRequest(
            f"seconds: expected 0 to {MOST_SECONDS:g}, got {args.seconds:g}", field="seconds"
        )
    if not 0 <= args.threads <= MOST_THREADS:
        raise InvalidRequest(
            f"threads: expected 0 to {MOST_THREADS}, got {args.threads}", field="threads"
        )
    bundle = open_bundle(bundle_or_default(args.bundle), runs=())
    bundle.verify_present()
    names = args.component or [bundle.manifest.components[at].name for at in bundle.here()]
    bundle.require(bundle.manifest.position(name) for name in names)
    folder = required_cache_folder()
    effort = Effort(threads=args.threads, seconds=args.seconds, cache=folder / "engines")
    print(COLUMNS.format(*TITLES))
    key = tuning_key(bundle.bundle_id, args.threads)
    earlier = read_tuning(folder / "tuning", key)
    found = [] if earlier is None else [m for m in earlier.measurements if m.component not in names]
    for position in [bundle.manifest.position(name) for name in names]:
        component = bundle.manifest.components[position]
        for role in component.graphs:
            for measured in measure(bundle, component, effort, role):
                found.append(measured)
                print(row(measured), flush=True)
    for component in bundle.manifest.components if not args.component else ():
        if component.name not in names:
            print(f"{component.name:14} not here, so not measured")
    tuning = Tuning(key=key, measurements=tuple(found))
    print(f"kept in {write_tuning(folder / 'tuning', tuning)}")
    return 0


def candidates(component: ComponentSpec) -> list[tuple[EngineKind, Precision]]:
    """Every installed engine in every precision that `auto` may take here."""
    processor = this_processor()
    return [
        (kind, precision)
        for kind in installed_kinds()
        for precision in auto_precisions(component, kind, processor)
    ]


def objection(
    component: ComponentSpec, kind: EngineKind, precision: Precision, difference: float | None
) -> str:
    """Why a way is too far from float32 to be used; empty where it is not.

    Args:
        component: its entry in the manifest.
        kind: the engine.
        precision: what it computes in.
        difference: of one step; None where there is nothing to compare with.
    """
    proven = precision in file_precisions(component, kind)
    if difference is None:
        return "" if proven else "no float32 run in ONNX Runtime to compare it with"
    most = LARGEST_DIFFERENCE if proven else LARGEST_UNPROVEN
    return f"too far from float32: {difference:.2f}" if difference > most else ""


def measure(
    bundle: Bundle, component: ComponentSpec, effort: Effort, role: str = NET
) -> Iterator[Measurement]:
    """All candidates of one graph of a component, in interleaved rounds."""
    batch = default_batch(component)
    times: dict[tuple[EngineKind, Precision], list[float]] = {}
    failed: dict[tuple[EngineKind, Precision], str] = {}
    trials: dict[tuple[EngineKind, Precision], Trial] = {}
    with ExitStack() as stack:
        for pair in candidates(component):
            order = Order(
                bundle=str(bundle.folder),
                component=component.name,
                role=role,
                kind=pair[0],
                precision=pair[1],
                threads=effort.threads,
                batch=batch,
                cache=str(effort.cache),
            )
            try:
                trials[pair] = stack.enter_context(closing(Trial(order)))
            except CascadeError as exc:
                failed[pair] = str(exc)
        reference = trials[REFERENCE].sample if REFERENCE in trials else None
        run_rounds(trials, times, failed, effort.seconds)
        for pair in [*trials, *(p for p in failed if p not in trials)]:
            trial = trials.get(pair)
            difference = None
            if trial is not None and reference is not None:
                difference = relative_rms(trial.sample, reference)
            problem = objection(component, *pair, difference)
            if problem:
                failed.setdefault(pair, problem)
            milliseconds = [1000 * seconds for seconds in times.get(pair, [])] or [0.0]
            yield Measurement(
                component=component.name,
                kind=pair[0],
                precision=pair[1],
                batch=batch,
                step_ms=statistics.median(milliseconds),
                p10_ms=float(np.quantile(milliseconds, 0.1)),
                p90_ms=float(np.quantile(milliseconds, 0.9)),
                load_s=0.0 if trial is None else trial.load_s,
                difference=difference or 0.0,
                failed=failed.get(pair, ""),
                role=role,
            )


def run_rounds(
    trials: dict[tuple[EngineKind, Precision], Trial],
    times: dict[tuple[EngineKind, Precision], list[float]],
    failed: dict[tuple[EngineKind, Precision], str],
    seconds: float,
) -> None:
    """Every trial once per round, until the time is over; one that fails drops out."""
    spent, done = 0.0, 0
    while done < LEAST_ROUNDS + WARM_UP or (spent < seconds and done < MOST_ROUNDS):
        # Whoever runs first in a round finds another machine than whoever runs last: take turns.
        first = done % max(1, len(trials))
        order = [*trials][first:] + [*trials][:first]
        for pair in [pair for pair in order if pair not in failed]:
            try:
                took = trials[pair].run()
            except CascadeError as exc:
                failed[pair] = str(exc)
                continue
            spent += took
            if done >= WARM_UP:
                times.setdefault(pair, []).append(took)
        done += 1


def relative_rms(found: ArrayLike, reference: ArrayLike) -> float:
    """RMS of the difference over the RMS of the reference, from 0 on.

    Args:
        found: any shape.
        reference: of the same shape.
    """
    a, b = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    return float(np.sqrt(np.mean((a - b) ** 2) / max(float(np.mean(b**2)), 1e-30)))


def row(m: Measurement) -> str:
    """One line of the table."""
    spread = f"{m.p10_ms:.1f}..{m.p90_ms:.1f}"
    name = m.component if m.role == NET else f"{m.component}.{m.role}"
    return COLUMNS.format(
        name, m.kind, m.precision, m.batch, f"{m.step_ms:.1f}", spread, f"{m.load_s:.2f}",
        f"{m.difference:.1e}", m.failed or "",
    )  # fmt: skip
