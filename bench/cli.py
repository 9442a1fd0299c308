"""`cascade bench`: measure, sweep, compare and report.

Turns arguments into values; what a phase does is known elsewhere.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.flags import (
    add_axis_flags,
    add_link_flags,
    add_load_flags,
    add_system_flags,
    axes_of_flags,
    config_of,
    link_of,
    plan_of,
    seconds_of,
)
from cascade.bundle.default_bundle import bundle_or_default
from cascade.bundle.manifest import Manifest
from cascade.commands.exit_codes import DONE
from cascade.errors import InvalidRequest
from cascade.families import cost_of

KEPT = "what was measured until then is in the record"


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bench` and what stands below it."""
    words = "measure latency, throughput and bytes of a split cascade, and compare"
    parser = subparsers.add_parser("bench", help=words, description=words)
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    register_run(below)
    register_grid(below)
    register_compare(below)
    register_report(below)


def register_run(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run`."""
    words = "measure one system under one load over one link"
    parser = subparsers.add_parser("run", help=words, description=words)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the record, JSON")  # fmt: skip
    add_load_flags(parser)
    add_link_flags(parser)
    add_system_flags(parser)
    parser.set_defaults(run=run, interrupted=KEPT)


def register_grid(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `grid`."""
    words = "measure every cut over every link, and one link under every load; goes on where it was"
    parser = subparsers.add_parser("grid", help=words, description=words)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the grid, JSON; cells that it holds are not measured again")  # fmt: skip
    add_axis_flags(parser)
    add_system_flags(parser)
    parser.set_defaults(run=run_grid, interrupted=KEPT)


def register_compare(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `compare`."""
    words = "how many times as long the second takes, pair by pair, with its confidence interval"
    parser = subparsers.add_parser("compare", help=words, description=words)
    parser.add_argument("first", type=Path, metavar="FIRST", help="a record of `cascade bench run`")
    parser.add_argument("second", type=Path, metavar="SECOND", help="another of the same workload")
    parser.set_defaults(run=run_compare)


def register_report(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `report`."""
    words = "one HTML file of a grid: best cut per link, hops, percentiles over load"
    parser = subparsers.add_parser("report", help=words, description=words)
    parser.add_argument("grid", type=Path, metavar="GRID", help="JSON of `cascade bench grid`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the HTML")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Write the page."""
    from bench.record import GRID_FORMAT, read_record
    from bench.report.page import html_of

    check_output(args.output)
    args.output.write_text(html_of(read_record(args.grid, (GRID_FORMAT,))), "utf-8")
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")
    return DONE


def run_compare(args: argparse.Namespace) -> int:
    """Print the ratios."""
    from bench.compare import as_text, cautions, pairs_of, ratio_of
    from bench.record import read_record

    first, second = read_record(args.first), read_record(args.second)
    ratios = [ratio_of(name, *sides) for name, sides in pairs_of(first, second).items()]
    print(as_text(ratios, cautions(first, second)))
    return DONE


def run_grid(args: argparse.Namespace) -> int:
    """Measure the cells that are missing."""
    from bench.grid import GridFile, GridPlan, GridRun
    from bench.workload import read_workload
    from cascade.bundle.bundle import open_bundle

    check_output(args.output)
    config = config_of(args)
    bundle = open_bundle(bundle_or_default(args.bundle), config.require_signature)
    axes = axes_of_flags(args, len(bundle.manifest.components))
    workload = read_workload(args.prompts, args.seed)
    plan = GridPlan(
        bundle=bundle,
        config=config,
        workload=workload,
        axes=axes,
        say=progress(quiet=args.quiet),
        seconds=seconds_of(args.minutes),
    )
    file = GridFile(args.output, bundle, workload)
    file.note_minutes(args.minutes)
    left = GridRun(plan, file).run()
    print(f"{len(file.value['cells'])} cells in {args.output}")
    if left:
        print(f"no time for {left} links or loads: the same command goes on with them")
    return DONE


def run(args: argparse.Namespace) -> int:
    """Measure and write the record, whatever becomes of it."""
    from bench.table import as_text

    check_output(args.output)
    with ExitStack() as stack:
        benchmark_run = prepared(args, stack)
        measure_and_write(benchmark_run, args.output)
    print(as_text(benchmark_run.record))
    return DONE


def measure_and_write(benchmark_run: Any, output: Path) -> None:
    """Run, and write what there is: also after Ctrl-C and where a server is gone.

    Raises:
        KeyboardInterrupt: as it came, once the record is written.
        CascadeError: likewise.
    """
    from bench.record import write_json

    try:
        benchmark_run.run()
    finally:
        write_json(output, benchmark_run.record)


def check_output(path: Path) -> None:
    """Raise `InvalidRequest` now if a file cannot be written there after minutes of work."""
    from runtime_client.cli.picture_file import check_writable

    if path.is_dir() or not path.parent.is_dir():
        raise InvalidRequest(f"output: {path} is no file in a folder that exists", field="output")
    check_writable(path.parent, "output")


def prepared(args: argparse.Namespace, stack: ExitStack) -> Any:
    """The run that the flags describe; what it opens is closed by the stack.

    Raises:
        InvalidRequest: the flags contradict each other or do not fit the bundle.
    """
    from bench.audit import LocalPictures
    from bench.run import Benchmark, BenchmarkRun
    from bench.systems.cascade_system import CascadeChoice, OpenCascade, written
    from bench.workload import read_workload
    from cascade.bundle.bundle import open_bundle
    from runtime_client.placement_chooser import configured_placement

    plan, link, config = plan_of(args), link_of(args), config_of(args)
    workload = read_workload(args.prompts, args.seed)
    bundle = open_bundle(bundle_or_default(args.bundle), config.require_signature)
    configured_placement(bundle.manifest, config)
    write = None
    if args.write != "none":
        write = written(Path(stack.enter_context(tempfile.TemporaryDirectory())), args.write)
    local = LocalPictures(bundle, config) if plan.check else None
    choice = CascadeChoice(bundle=bundle, config=config, link=link)
    benchmark = Benchmark(
        open_system=OpenCascade(choice, write),
        workload=workload,
        plan=plan,
        local=local,
        say=progress(quiet=args.quiet),
        against=other_system(args, bundle.manifest),
    )
    return BenchmarkRun(benchmark)


def other_system(args: argparse.Namespace, manifest: Manifest) -> Callable[[], Any] | None:
    """Opens the system of `--against`; None where there is none.

    A pipeline of diffusers takes as many steps as the first stage that makes pictures, unless told.

    Raises:
        InvalidRequest: there is none of that name.
    """
    from bench.systems.other_systems import open_other

    if args.against is None:
        return None
    costs = [cost_of(spec) for spec in manifest.components]
    steps = args.against_steps or next((cost.units for cost in costs if cost.pixels), 1)
    other = open_other(args.against, args.timeout, steps)
    return lambda: other


def progress(*, quiet: bool) -> Callable[[str], None]:
    """Says one line per phase on standard error."""

    def say(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"bench: {line}\n")

    return say
