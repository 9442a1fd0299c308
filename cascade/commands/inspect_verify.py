"""`cascade inspect` and `cascade verify`: what a bundle holds, and whether it is whole.

Knows bundles and local engines; neither training nor networks beyond the exported graphs.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import add_bundle_argument, bundle_or_default
from cascade.bundle.wire_limits import check_wire_limits
from cascade.codecs.strict_json import to_json
from cascade.commands import sign as sign_command
from cascade.engine import Engine
from cascade.errors import EngineError, ManifestError
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import CONTEXT_DB, NET, PICTURE_DB, GraphSpec, QualityRecord
from cascade.precision import Precision
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.tuning.memory_needs import memory_needs


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    sign_command.register(subparsers)
    for name, run, words in (
        ("inspect", inspect, "print what a bundle holds"),
        ("verify", verify, "check hashes and signatures, and run one step of every component"),
    ):
        parser = subparsers.add_parser(name, help=words, description=words)
        add_bundle_argument(parser)
        if name == "verify":
            parser.add_argument(
                "--require-signature", type=Path, metavar="KEY",
                help="PEM file with the public key that must have signed it (default: none)",
            )  # fmt: skip
        if name == "inspect":
            parser.add_argument("--json", action="store_true", help="print the manifest as JSON")
        parser.set_defaults(run=run)


def inspect(args: argparse.Namespace) -> int:
    """Print a bundle's table of contents."""
    # Of a sparse bundle too: the manifest is whole, and what is not here is said.
    bundle = open_bundle(bundle_or_default(args.bundle), runs=())
    manifest = bundle.manifest
    if args.json:
        print(json.dumps(to_json(manifest), indent=1))
        return 0
    print(f"bundle    {manifest.name}  {bundle.bundle_id}")
    print(f"licence   {manifest.licence}")
    for key, value in manifest.provenance.items():
        print(f"{key.replace('_', ' '):9} {value}")
    for position, component in enumerate(manifest.components):
        print(f"\n{position} {component.name}  ({component.family})")
        for line in (*describe(component), *memory_lines(bundle, component)):
            print(f"    {line}")
    print("\nfiles")
    for entry in manifest.files:
        absent = "" if bundle.holds(entry.name) else "  (not here)"
        print(f"    {entry.size_bytes:>10,}  {entry.sha256[:16]}  {entry.name}{absent}")
    print(f"    {sum(e.size_bytes for e in manifest.files):>10,}  bytes in all")
    return 0


def describe(component: ComponentSpec) -> list[str]:
    """What a reader wants to know of one component, line by line."""
    lines: list[str] = []
    for role, graph in component.graphs.items():
        lines += [] if role == NET else [f"graph    {role}"]
        lines += describe_graph(graph)
    lines += family_of(component).describe(component)
    return lines + provenance_lines(component.provenance)


def memory_lines(bundle: Bundle, component: ComponentSpec) -> list[str]:
    """What a component takes on this machine, a line per precision."""
    return [f"memory   {need.text}" for need in memory_needs(bundle, component)]


def describe_graph(graph: GraphSpec) -> list[str]:
    """Inputs, outputs, parity and variants of one graph, line by line."""
    parity = graph.parity
    return [
        *(
            f"{side:8} " + ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in tensors)
            for side, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs))
        ),
        f"parity   max abs error {parity.max_abs_error:.2e} (tolerance "
        f"{parity.tolerance_abs:.0e}), {parity.psnr_db:.1f} dB against torch; "
        f"weights stored as {graph.storage}",
        *(
            f"variant  {v.precision}: {v.file}, max abs error {v.parity.max_abs_error:.2e}, "
            f"{quality_words(v.quality)}"
            for v in graph.variants
        ),
    ]


def quality_words(quality: QualityRecord) -> str:
    """`pictures at least 41.8 dB from float32`, or the metric by its name."""
    if quality.metric == PICTURE_DB:
        return f"pictures at least {quality.value:.1f} dB from float32"
    if quality.metric == CONTEXT_DB:
        return f"embeddings at least {quality.value:.1f} dB from float32"
    return f"{quality.metric} {quality.value:g} against float32"


def provenance_lines(provenance: Mapping[str, Any]) -> list[str]:
    """How a component came about, one line per fact."""
    lines: list[str] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {said}" for name, said in value.items())  # noqa: PLW2901
        lines.append(f"{key:8} {value}")
    return lines


def verify(args: argparse.Namespace) -> int:
    """Check a bundle from its hashes to one step of every component that is here."""
    from cascade.engines.ort import OrtEngine  # the one command here that needs an engine

    bundle = open_bundle(bundle_or_default(args.bundle), args.require_signature, runs=())
    bundle.verify_present()
    check_wire_limits(bundle.manifest)
    if args.require_signature is not None:
        print(f"signature     that of {args.require_signature}")
    listed, absent = len(bundle.manifest.files), len(bundle.missing())
    count = f"{listed - absent} of {listed} here," if absent else f"{listed}"
    print(f"files         {count} whole, hashes right")
    for component in bundle.manifest.components:
        for role, graph in component.graphs.items():
            for precision in (Precision.FP32, *(v.precision for v in graph.variants)):
                file = graph.file_for(precision)
                needed = [name for name in (file, graph.file, graph.weights) if name is not None]
                if not bundle.holds(*needed):
                    missing = next(name for name in needed if not bundle.holds(name))
                    beside = "" if missing == file else f" without {missing}, which is"
                    print(f"{component.name:13} {file}:{beside} not here")
                    continue
                try:
                    engine = OrtEngine(bundle.read_graph(graph, precision))
                    check_signature(graph, engine)
                    run_one_step(component, engine, role)
                except EngineError as exc:
                    raise ManifestError(f"{file}: {exc}") from exc
                engine.close()
                print(f"{component.name:13} {file}: signature right, one step gave finite numbers")
    print(f"ok            {bundle.bundle_id}")
    return 0


def check_signature(graph: GraphSpec, engine: Any) -> None:
    """Compare the graph's own inputs and outputs with the manifest's.

    Raises:
        ManifestError: a name, dtype or shape differs.
    """
    sides = ((graph.inputs, engine.inputs), (graph.outputs, engine.outputs))
    for listed, found in sides:
        said = {tensor.name: (tensor.dtype, tensor.shape) for tensor in listed}
        if said != found:
            raise ManifestError(f"{graph.file}: the manifest says {said}, the graph says {found}")


def run_one_step(component: ComponentSpec, engine: Engine, role: str) -> None:
    """Run one graph of a component once on small dummy inputs of the listed shapes.

    Raises:
        ManifestError: an output is missing, of another shape, or holds NaN or infinity.
    """
    axes = free_axes(component, batch=1, tokens=4)
    outputs = engine.run(dummy_inputs(component, axes, role))
    for tensor in component.graphs[role].outputs:
        result, shape = outputs[tensor.name], tensor.shape_with(axes)
        if result.shape != shape or not np.isfinite(result).all():
            raise ManifestError(
                f"{component.name}: {tensor.name} came back as {list(result.shape)}, expected "
                f"finite numbers of shape {list(shape)}"
            )
