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
    add_link_flags,
    add_load_flags,
    add_system_flags,
    check_link,
    config_of,
    link_of,
    plan_of,
)
from cascade.bundle.default_bundle import bundle_or_default
from cascade.commands.exit_codes import DONE
from cascade.errors import InvalidRequest

KEPT = "what was measured until then is in the record"


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bench` and what stands below it."""
    words = "measure latency, throughput and bytes of a split cascade, and compare"
    parser = subparsers.add_parser("bench", help=words, description=words)
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    register_run(below)


def register_run(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run`."""
    words = "measure one system under one load over one link"
    parser = subparsers.add_parser("run", help=words, description=words)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the record, JSON")  # fmt: skip
    add_load_flags(parser)
    add_link_flags(parser)
    add_system_flags(parser)
    parser.set_defaults(run=run, interrupted=KEPT)


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
    from runtime_client.placement import check_cut

    plan, link, config = plan_of(args), link_of(args), config_of(args, args.cut)
    check_link(link, config)
    workload = read_workload(args.prompts, args.seed)
    bundle = open_bundle(bundle_or_default(args.bundle), config.require_signature)
    check_cut(config.cut, len(bundle.manifest.components))
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
    )
    return BenchmarkRun(benchmark)


def progress(*, quiet: bool) -> Callable[[str], None]:
    """Says one line per phase on standard error."""

    def say(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"bench: {line}\n")

    return say
