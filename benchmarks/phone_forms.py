"""What do accelerators of phones take of a bundle's graphs, before and after?

    python -m benchmarks.phone_forms [--bundle FOLDER] [--tokens 16] [--times] [--json FILE]

Every float32 graph as it lies in the bundle and in the form for phones (`export.forms.phone`):
nodes and pieces on each target, as ONNX Runtime's own checker counts them, and the form's parity
with the graph. With `--times`, ONNX and ONNX Runtime's format of both on the CPU here: bytes,
milliseconds to open and to run, medians in turns.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnxruntime as ort

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import open_bundle
from export.forms.ort_files import ort_file
from export.forms.phone import phone_form
from export.forms.usability import Usability, usability
from export.forms.verify import verify_phone_form
from export.passes.gate import synthetic_inputs

REFERENCE = Path(__file__).parents[1] / "bundles" / "emoji-1"
REPEATS = 5


def compared(folder: Path, tokens: int, *, times: bool) -> Iterator[dict[str, Any]]:
    """One row per graph of a bundle."""
    bundle = open_bundle(folder)
    for component in bundle.manifest.components:
        side = getattr(getattr(component, "makes", None), "width", None) or 64
        for graph in component.graphs.values():
            stored = (folder / graph.file).read_bytes()
            sides = {"height": side, "width": side}
            form = phone_form(onnx.load_from_string(stored), 1, tokens, sides)
            exact = getattr(component, "arithmetic", "") == "exact"
            parity, after = verify_phone_form(graph.file, stored, form, exact=exact)
            before = usability(stored)
            row: dict[str, Any] = {
                "graph": graph.file,
                "max_abs_error": parity.max_abs_error,
                "before": {target: asdict(found) for target, found in before.items()},
                "after": {target: asdict(found) for target, found in after.items()},
            }
            print_row(graph.file, parity.max_abs_error, before, after)
            if times:
                row["files"] = timed(stored, form)
                print_files(graph.file, row["files"])
            yield row


def print_row(
    name: str, error: float, before: Mapping[str, Usability], after: Mapping[str, Usability]
) -> None:
    """Pieces, nodes taken and verdict on each target."""
    print(f"{name:20} max abs error {error:.1e}")
    for target in after:
        first, second = before[target], after[target]
        print(
            f"  {target:20} {first.supported}/{first.nodes} in {first.partitions} {first.verdict}"
            f" -> {second.supported}/{second.nodes} in {second.partitions} {second.verdict}"
        )


def timed(stored: bytes, form: onnx.ModelProto) -> dict[str, dict[str, float]]:
    """Bytes, and milliseconds to open and to run, of four files of one graph."""
    plain = form.SerializeToString()
    files = {
        "onnx": stored,
        "ort": ort_file(stored),
        "phone.onnx": plain,
        "phone.ort": ort_file(plain),
    }
    case = synthetic_inputs(form, {})
    opened: dict[str, list[float]] = {name: [] for name in files}
    run: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(REPEATS):
        for name, data in files.items():
            begun = time.perf_counter()
            session = ort.InferenceSession(data, options(), providers=["CPUExecutionProvider"])
            opened[name].append(1e3 * (time.perf_counter() - begun))
            # The first run of a session plans its memory.
            session.run(None, case)
            begun = time.perf_counter()
            session.run(None, case)
            run[name].append(1e3 * (time.perf_counter() - begun))
    return {
        name: {
            "bytes": len(data),
            "open_ms": round(median(opened[name]), 1),
            "run_ms": round(median(run[name]), 1),
        }
        for name, data in files.items()
    }


def options() -> ort.SessionOptions:
    """One thread, and no warnings."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = 1
    chosen.log_severity_level = 3
    return chosen


def print_files(name: str, files: Mapping[str, Mapping[str, float]]) -> None:
    """One line per file."""
    for kind, row in files.items():
        print(
            f"  {name.removesuffix('.onnx')}.{kind:12} {row['bytes'] / 1e6:6.2f} MB, "
            f"open {row['open_ms']:6.1f} ms, run {row['run_ms']:6.1f} ms"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--bundle", type=Path, default=REFERENCE)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = list(compared(args.bundle, args.tokens, times=args.times))
    if args.json is not None:
        write_record(args.json, {"tokens": args.tokens, "graphs": rows})


if __name__ == "__main__":
    main()
