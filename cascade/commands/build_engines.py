"""`cascade build-engines`: engines for GPUs from a bundle's graphs.

Knows bundles, options and the cache; what a build is, `trt_build` knows, and is imported when the
command runs.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import add_bundle_argument, bundle_or_default
from cascade.bundle.gpu_graph import available_precisions, gpu_graph
from cascade.engines.trt_options import BuildOptions, parse_capability
from cascade.errors import EngineError, ManifestError
from cascade.family import ComponentSpec
from cascade.graph_spec import NET, GraphSpec
from cascade.precision import BLOCKS, Precision
from cascade.system.user_cache import required_cache_folder

COLUMNS = "{:14} {:5} {:>7} {:>9} {:>9} {:>8} {:>8}  {}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineReport:
    """One engine, as printed."""

    component: str
    precision: Precision
    library: str
    target: str
    profile: str
    norms: str
    """Normalisations that are one layer in the network, of those in the graph."""
    attention: str
    layers: dict[str, int]
    """Of the network that the library read, by type."""
    formats: dict[str, int]
    """What the heavy layers of the network read."""
    engine_layers: dict[str, int] | None
    """Of the finished engine, by type; None where no card can load it."""
    seconds: float
    """Of this call: the build, or finding it in the cache."""
    build_s: float
    size_bytes: int
    built: bool
    why: str
    file: str


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    words = "build TensorRT engines from a bundle's graphs, into a cache on this machine"
    parser = subparsers.add_parser("build-engines", help=words, description=words)
    add = parser.add_argument
    add_bundle_argument(parser)
    add("--component", nargs="+", metavar="NAME", help="only these components (default: all)")
    precisions = [precision.value for precision in Precision if precision not in BLOCKS]
    add("--precision", nargs="+", metavar="P", choices=precisions,
        help="fp32 fp16 bf16 int8 fp8 (default: fp16 if the bundle has it)")  # fmt: skip
    add("--cache", type=Path, metavar="DIR", help="where engines lie (default: user's cache)")
    add("--compute-capability", nargs="+", metavar="M.N", default=[],
        help="cards to build for, such as 8.6 (default: any)")  # fmt: skip
    add("--max-batch", type=int, default=8, metavar="N", help="largest batch (default: 8)")
    add("--max-tokens", type=int, default=128, metavar="N", help="most tokens (default: 128)")
    add("--size", type=int, default=1024, metavar="PIXELS",
        help="largest height and width where they are free (default: 1024)")  # fmt: skip
    add("--workspace-mib", type=int, default=4096, metavar="N",
        help="scratch memory on the card at most (default: 4096)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON document instead of a table")
    parser.set_defaults(run=build_engines)


def build_engines(args: argparse.Namespace) -> int:
    """Build what is asked for and say what came of it."""
    from cascade.engines.engine_cache import CACHE_FOLDER, EngineCache

    bundle = open_bundle(bundle_or_default(args.bundle))
    cache = EngineCache((args.cache or required_cache_folder() / "engines") / CACHE_FOLDER)
    if not args.json:
        print(COLUMNS.format("component", "", "norms", "attention", "layers", "seconds", "MB", ""))
    reports = []
    for component in chosen(bundle, args.component):
        for role, graph in component.graphs.items():
            name = component.name if role == NET else f"{component.name}.{role}"
            for precision in chosen_precisions(graph, args.precision):
                report = build_one(bundle, name, graph, options(args, precision), cache)
                reports.append(report)
                if not args.json:
                    print_row(report)
    if args.json:
        print(json.dumps([asdict(report) for report in reports], indent=1))
    else:
        print_layers(reports)
    return 0


def build_one(
    bundle: Bundle, name: str, spec: GraphSpec, options: BuildOptions, cache: Any
) -> EngineReport:
    """One engine of one graph, from the cache or built."""
    from cascade.engines.trt_build import cached_engine, engine_key, inspect_engine

    graph = gpu_graph(bundle, spec, options.precision)
    start = time.perf_counter()
    found = cached_engine(cache, graph, options)
    seconds = time.perf_counter() - start
    if found.unkept:
        raise EngineError(found.unkept, field="cache")
    key, facts = engine_key(graph, options), found.facts
    layers, whole = facts["layers"], facts["whole"]
    return EngineReport(
        component=name,
        precision=options.precision,
        library=f"{key.library} {key.library_version}",
        target=key.target,
        profile=key.profile,
        norms=f"{layers.get('NORMALIZATION', 0)}/{whole['norms']}",
        attention=f"{layers.get('ATTENTION_INPUT', 0)}/{whole['attention']}",
        layers=layers,
        formats=facts["formats"],
        engine_layers=inspect_engine(found.payload),
        seconds=round(seconds, 3),
        build_s=facts["build_s"],
        size_bytes=len(found.payload),
        built=found.built,
        why=found.why,
        file=str(cache.path(key)),
    )


def options(args: argparse.Namespace, precision: Precision) -> BuildOptions:
    """The command line as build options; its defaults are those of an engine opened to run."""
    return BuildOptions(
        precision=precision,
        capabilities=tuple(parse_capability(text) for text in args.compute_capability),
        max_batch=args.max_batch,
        max_tokens=args.max_tokens,
        size=args.size,
        workspace_mib=args.workspace_mib,
    )


def chosen(bundle: Bundle, names: list[str] | None) -> list[ComponentSpec]:
    """The components of those names, in the cascade's order; all without names."""
    present = {component.name: component for component in bundle.manifest.components}
    for name in names or ():
        if name not in present:
            raise ManifestError(
                f"component: the bundle has no {name!r}, it has {', '.join(present)}",
                field="component",
            )
    return [c for name, c in present.items() if not names or name in names]


def chosen_precisions(graph: GraphSpec, names: list[str] | None) -> list[Precision]:
    """The precisions of those names; without names, half where there is a graph for it."""
    if names:
        return [Precision(name) for name in dict.fromkeys(names)]
    has_half = Precision.FP16 in available_precisions(graph)
    return [Precision.FP16 if has_half else Precision.FP32]


def print_row(report: EngineReport) -> None:
    """One line of the table, as soon as the engine is there."""
    state = f"built: {report.why}" if report.built else "from the cache"
    total, size = sum(report.layers.values()), report.size_bytes / 1e6
    print(
        COLUMNS.format(
            report.component,
            report.precision,
            report.norms,
            report.attention,
            total,
            f"{report.seconds:.2f}",
            f"{size:.1f}",
            state,
        ),
        flush=True,
    )


def print_layers(reports: list[EngineReport]) -> None:
    """What the networks and the finished engines are made of."""
    for report in reports:
        print(f"\n{report.component} {report.precision}  {report.library}, for {report.target}")
        print(f"    profile  {report.profile}")
        print(f"    heavy    {counts(report.formats)}")
        print(f"    network  {counts(report.layers)}")
        engine = report.engine_layers
        words = "not inspected: that needs a GPU" if engine is None else counts(engine)
        print(f"    engine   {words}")
        print(f"    file     {report.file}")


def counts(numbers: dict[str, int]) -> str:
    """`a 3, b 1`, most frequent first."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name.lower()} {number}" for name, number in ordered)
