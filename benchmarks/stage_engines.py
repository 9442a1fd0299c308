"""Which way to run a stage's network is the fastest, and is it still the same network?

    python -m benchmarks.stage_engines --checkpoints DIR [--json FILE] [--plot FILE]

For every stage: torch eager and compiled in float32 and bfloat16, the plain export in ONNX Runtime
and OpenVINO, the bundle's graphs in float32, bfloat16 and int8; those know the usual shapes, as in
the product, while a plain export with norms in it stays free (decision 9). Everything runs in a
process of its own, one at a time, in interleaved rounds after two evaluations of warm-up; compiling
is not counted. Where a row has several settings (torch.compile) all of them run and the best median
stands for it; the JSON has all. Whoever needs more than 10 s for an evaluation gets 3 rounds only,
and the table says so.

Inputs: the stage's resolution, two rows (with and without text) where its guidance asks for both,
eight tokens. Parity is against eager float32 torch: the largest difference as a share of the
output's range, and the PSNR with that range as peak. Without `--checkpoints` the network's weights
are random and the bundle's graphs are only timed. Needs the extras train, export, openvino and
(for the plot) bench; exports the plain graph itself, which takes minutes, unless `--plain DIR` has
NAME.onnx.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.engine_race import SLOW_ROUNDS, Racer, line_up, race
from benchmarks.lib.race_entries import Subject, engine_contestants, torch_contestants
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.family import diffusion_specs
from cascade.diffusion.spec import DiffusionSpec
from cascade.precision import Precision
from cascade.text.family import text_encoder_of
from cascade.types import Array

TOKENS = 8
PATIENCE_S = 900.0
"""How long one answer may take, compiling included."""


def stage_inputs(spec: DiffusionSpec, width: int) -> dict[str, Array]:
    """Inputs of one step as the stage runs it, from a fixed seed."""
    rng = np.random.default_rng(0)
    taught = bool(spec.guidance.taught)
    rows = 1 if taught or spec.guidance.weight == 1.0 else 2
    size = spec.makes.width
    image = (rows, 3, size, size)
    mask = np.ones((rows, TOKENS), np.float32)
    mask[1:] = 0  # the half without text
    inputs: dict[str, Array] = {
        "x_t": rng.standard_normal(image).astype(np.float32),
        "t": np.full(rows, 0.5, np.float32),
        "context": rng.standard_normal((rows, TOKENS, width)).astype(np.float32),
        "context_mask": mask,
    }
    if taught:
        inputs["guidance"] = np.full(rows, spec.guidance.weight, np.float32)
    if spec.low is not None:
        inputs["low_res"] = rng.uniform(-1, 1, image).astype(np.float32)
        inputs["aug_level"] = np.full(rows, 0.05, np.float32)
    return inputs


def bundle_graphs(bundle: Bundle, spec: DiffusionSpec, folder: Path) -> dict[Precision, Path]:
    """The stage's checked files by precision, copied where the children find them."""
    files = {Precision.FP32: spec.graph.file}
    files.update({variant.precision: variant.file for variant in spec.graph.variants})
    paths = {}
    for precision, name in files.items():
        paths[precision] = folder / f"ours-{name}"
        paths[precision].write_bytes(bundle.read_graph(spec.graph, precision))
    return paths


def parity(output: Array, truth: Array) -> dict[str, float]:
    """Largest difference, as it is and as a share of the truth's range, and PSNR in decibels."""
    difference = output.astype(np.float64) - truth
    span = float(truth.max() - truth.min())
    mean = float(np.mean(difference**2))
    worst = float(np.abs(difference).max())
    return {
        "max_abs": worst,
        "of_range": worst / span,
        "psnr_db": 10 * np.log10(span**2 / mean) if mean else 200.0,
    }


def figures_of(racer: Racer, truth: Array | None, gigaflop: float, gemm: float) -> dict[str, Any]:
    """Everything measured of one entry."""
    entry = racer.entry
    named = {"family": entry.family, "setting": entry.setting}
    if racer.problem or not racer.seconds:
        return {**named, "problem": racer.problem or "no round was run"}
    low, middle, high = np.quantile(racer.seconds, [0.1, 0.5, 0.9])
    rate = gigaflop / middle
    comparable = entry.same_weights and truth is not None and racer.output is not None
    return {
        **named,
        "median_s": float(middle),
        "p10_s": float(low),
        "p90_s": float(high),
        "rounds": len(racer.seconds),
        "gflops": float(rate),
        "of_gemm": float(rate / gemm),
        "parity": parity(racer.output, truth) if comparable else None,  # type: ignore[arg-type]
        "seconds": racer.seconds,
    }


def best_of_each(figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per family: its fastest setting, or its problem if none runs."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in figures:
        known = rows.get(entry["family"])
        if known is None or entry.get("median_s", np.inf) < known.get("median_s", np.inf):
            rows[entry["family"]] = entry
    return list(rows.values())


def print_stage(name: str, stage: Mapping[str, Any], rounds: int) -> None:
    """One stage's table."""
    print(
        f"\n{name}: {stage['gigaflop']:.2f} GFLOP, batch {stage['batch']}, "
        f"best GEMM {stage['gemm_gflops']:.0f} GFLOP/s"
    )
    print(
        f"{'':32}{'median':>9}{'p10':>9}{'p90':>9}  {'GFLOP/s':>8}{'of GEMM':>8}"
        f"{'max abs':>10}{'PSNR':>7}"
    )
    for row in best_of_each(stage["entries"]):
        if "problem" in row:
            print(f"{row['family']:32}  {row['problem']}")
            continue
        same = row["parity"]
        words = f"{same['max_abs']:10.1e}{same['psnr_db']:7.1f}" if same else f"{'-':>10}{'-':>7}"
        few = f"  {row['rounds']} rounds" if row["rounds"] < rounds else ""
        setting = f"  {row['setting']}" if row["setting"] else ""
        print(
            f"{row['family']:32}{1000 * row['median_s']:7.1f}ms{1000 * row['p10_s']:7.1f}ms"
            f"{1000 * row['p90_s']:7.1f}ms  {row['gflops']:8.0f}{100 * row['of_gemm']:7.0f}%"
            f"{words}{few}{setting}"
        )


def run_stage(
    bundle: Bundle, spec: DiffusionSpec, args: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """One stage's race."""
    from benchmarks.lib.torch_ways import best_gemm_rate, export_plain, gigaflop  # noqa: PLC0415

    folder_of = {spec.name: spec.name, **dict(entry.split("=", 1) for entry in args.networks)}
    subject = Subject(
        stage=spec.name,
        checkpoint=None if args.checkpoints is None else args.checkpoints / folder_of[spec.name],
        storage=spec.graph.storage,
        inputs=stage_inputs(spec, text_encoder_of(bundle.manifest.components).makes.width),
        threads=args.threads,
    )
    plain = args.plain / f"{spec.name}.onnx" if args.plain else export_plain(subject, folder)
    entries = [
        entry
        for entry in torch_contestants()
        + engine_contestants(
            plain,
            bundle_graphs(bundle, spec, folder),
            same_weights=args.checkpoints is not None,
        )
        if not any(word in entry.name for word in args.skip)
    ]
    racers = line_up(entries, subject, PATIENCE_S, lambda line: print(line, flush=True))
    race(racers, args.rounds, PATIENCE_S)
    truth = next((r.output for r in racers if r.entry.family == "torch eager fp32"), None)
    work, gemm = gigaflop(subject), best_gemm_rate(args.threads)
    return {
        "gigaflop": work,
        "gemm_gflops": gemm,
        "batch": len(subject.inputs["x_t"]),
        "entries": [figures_of(racer, truth, work, gemm) for racer in racers],
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--checkpoints", type=Path, help="folder of the bundle's checkpoints")
    parser.add_argument(
        "--networks", nargs="*", default=[], help="students in place of stages: base=base.guided.4"
    )
    parser.add_argument("--plain", type=Path, help="folder of plain exports of the same networks")
    parser.add_argument("--stages", nargs="*", help="names; all by default")
    parser.add_argument("--skip", nargs="*", default=[], help="leave out whoever's name has this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="0 takes one per core")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a PNG; needs the extra `bench`")
    return parser.parse_args()


def main() -> None:
    """Race and print."""
    args = parse_arguments()
    # Threads that wait by spinning would take the cores from whoever's turn it is.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    bundle = open_bundle(args.bundle)
    stages: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for spec in diffusion_specs(bundle.manifest.components):
            if not args.stages or spec.name in args.stages:
                stages[spec.name] = run_stage(bundle, spec, args, Path(folder))
                print_stage(spec.name, stages[spec.name], args.rounds)
    print(
        f"\nfewer than {args.rounds} rounds: one evaluation took over 10 s ({SLOW_ROUNDS} rounds)"
    )
    weights = "checkpoints" if args.checkpoints else "random"
    write_record(args.json, {"rounds": args.rounds, "weights": weights, "stages": stages})
    if args.plot:
        from benchmarks.lib.plots import plot_stages  # noqa: PLC0415  matplotlib is an extra

        plot_stages({n: best_of_each(s["entries"]) for n, s in stages.items()}, args.plot)


if __name__ == "__main__":
    main()
