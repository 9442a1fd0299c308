"""What does a component larger than protobuf holds take: to export, to be ready, and to open twice?

    python -m benchmarks.large_component [--megabytes 2700] [--processes 1,2,4] [--json FILE]

A text encoder of the true class (T5) with random weights, exported with its weights beside the
graph and opened in ONNX Runtime, each in a process of its own; in blocks of 8 and 4 bits as well
with `--blocks`. Where protobuf holds it, the same graph with its weights inside is opened too.
With `--processes` so many processes have it open at once, in ONNX Runtime and from the cache of
OpenVINO: memory of each, shared pages divided among those who have them. `device` is what a
client at cut 0 holds of a bundle with that encoder: the folder that `cascade bundle copy` makes
for it. Files go to a temporary folder that is deleted.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, EngineKind, open_engine
from cascade.engines.ort import OrtEngine
from cascade.graph_spec import NET, FileEntry, TensorSpec
from cascade.precision import Precision
from cascade.weights.buffer import WeightBuffer
from cascade.weights.references import check_references, find_references
from cascade.weights.source import MAX_MESSAGE_BYTES, ExternalGraph, whole_graph

GRAPH, WEIGHTS, ENTRY = "text_encoder.onnx", "text_encoder.safetensors", "entry.json"
REFERENCE = Path(__file__).parents[1] / "bundles" / "emoji-1"
WIDTHS = ((1_000, 2048, 5120), (100, 1024, 2816), (0, 256, 1024))
"""From so many megabytes on: width of the encoder and of its inner layers."""
TOKENS = 77
VOCABULARY = 1000


def memory() -> dict[str, float]:
    """Resident memory of this process and its peak so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return {"resident": int(kib["VmRSS"]) / 976.5625, "peak": int(kib["VmHWM"]) / 976.5625}


def encoder(megabytes: float) -> Any:
    """A T5 encoder of about that size, its weights random."""
    # Torch, which the processes that are measured must not load.
    from transformers import T5Config, T5EncoderModel  # noqa: PLC0415

    from export.adapters.t5_encoder import T5Network  # noqa: PLC0415

    width, inner = next((w, i) for least, w, i in WIDTHS if megabytes >= least)
    layer = 4 * (4 * width * width + 3 * width * inner)
    config = T5Config(
        d_model=width,
        d_kv=64,
        d_ff=inner,
        num_layers=max(1, round(megabytes * 1e6 / layer)),
        num_heads=width // 64,
        vocab_size=VOCABULARY,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
    )
    model = T5EncoderModel._from_config(config, attn_implementation="eager")  # noqa: SLF001
    return T5Network(model).eval().requires_grad_(requires_grad=False)


def export(folder: Path, megabytes: float) -> dict[str, float]:
    """Write graph and weights; what that took."""
    return export_in(folder, megabytes, ())


def export_blocks(folder: Path, megabytes: float) -> dict[str, float]:
    """The same with graphs of 8 and 4 bits over the same file."""
    return export_in(folder, megabytes, (Precision.INT8_BLOCK, Precision.INT4_BLOCK))


def export_in(
    folder: Path, megabytes: float, precisions: Collection[Precision]
) -> dict[str, float]:
    """Write a graph for float32 and each of some precisions, and their weights."""
    from export.streamed import export_streamed  # noqa: PLC0415  see `encoder`

    before = memory()["resident"]
    network = encoder(megabytes)
    width = network.encoder.config.d_model
    size = sum(parameter.numel() for parameter in network.parameters()) * 4 / 1e6
    axes = ("batch", "tokens")
    inputs = (
        TensorSpec(name="token_ids", dtype="int64", shape=axes),
        TensorSpec(name="token_mask", dtype="float32", shape=axes),
    )
    outputs = (TensorSpec(name="context", dtype="float32", shape=(*axes, width)),)
    begun = time.perf_counter()
    made = export_streamed(network, inputs, outputs, folder / WEIGHTS, precisions)
    seconds = time.perf_counter() - begun
    (folder / GRAPH).write_bytes(made.source.data)
    for precision, (source, _) in made.blocks.items():
        (folder / name_of(precision)).write_bytes(source.data)
    (folder / ENTRY).write_text(json.dumps(asdict(made.entry)))
    return {"megabytes": size, "imports": before, "seconds": seconds, **memory()}


def name_of(precision: Precision) -> str:
    """The file of a precision's graph."""
    return GRAPH if precision is Precision.FP32 else f"text_encoder.{precision}.onnx"


def read(folder: Path, name: str = GRAPH) -> ExternalGraph:
    """A graph as a bundle's reader takes it: references compared, weights not read yet."""
    said = json.loads((folder / ENTRY).read_text())
    entry = FileEntry(**{**said, "chunks": tuple(said["chunks"])})
    data = (folder / name).read_bytes()
    references = find_references(data, name)
    buffer = WeightBuffer(folder / WEIGHTS, entry)
    check_references(references, buffer.tensors, name, WEIGHTS)
    return ExternalGraph(data, tuple(references), buffer)


def ask(engine: Engine) -> float:
    """Seconds of one run."""
    begun = time.perf_counter()
    inputs = {
        "token_ids": np.arange(TOKENS)[None] % VOCABULARY,
        "token_mask": np.ones((1, TOKENS), np.float32),
    }
    engine.run(inputs)
    return time.perf_counter() - begun


def beside(folder: Path, megabytes: float) -> dict[str, float]:
    """Open the graph with its weights beside it, twice."""
    before = memory()["resident"]
    begun = time.perf_counter()
    graph = read(folder)
    first = OrtEngine(graph)
    ready = {"seconds": time.perf_counter() - begun, **memory()}
    run_s = ask(first)
    once = memory()["resident"]
    second = OrtEngine(graph)
    ask(second)
    found = {"megabytes": megabytes, "before": before, "run_seconds": run_s, **ready}
    return {**found, "after_run": once, "two_sessions": memory()["resident"]}


def in_blocks(folder: Path, megabytes: float, precision: Precision) -> dict[str, float]:
    """Open one of the graphs in blocks, and run it."""
    before = memory()["resident"]
    begun = time.perf_counter()
    engine = OrtEngine(read(folder, name_of(precision)))
    ready = {"seconds": time.perf_counter() - begun, **memory()}
    ask(engine)
    return {"megabytes": megabytes, "before": before, "run_seconds": ask(engine), **ready}


def device(folder: Path, megabytes: float) -> dict[str, float]:
    """What a client at cut 0 holds on disk of a bundle with this encoder; the last part."""
    whole, held = folder / "bundle", folder / "device"
    write_bundle_with(folder, whole)
    command = [sys.executable, "-m", "cascade", "bundle", "copy", str(whole), str(held)]
    begun = time.perf_counter()
    subprocess.run([*command, "--for", "client", "--cut", "0"], check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    sizes = [sum(f.stat().st_size for f in where.iterdir()) for where in (whole, held)]
    found = {"bundle_mb": sizes[0] / 1e6, "device_mb": sizes[1] / 1e6, "seconds": seconds}
    return {"megabytes": megabytes, **found, **memory()}


def write_bundle_with(folder: Path, whole: Path) -> None:
    """The reference bundle with this text encoder in the place of its own.

    Its stages take embeddings of another width: the width is only said, as nothing here runs them.
    """
    reference = open_bundle(REFERENCE)
    encoder: Any = reference.manifest.components[0]
    graph = replace(encoder.graphs[NET], weights=WEIGHTS, gpu_forms=())
    components = (replace(encoder, graphs={NET: graph}), *reference.manifest.components[1:])
    said = json.loads((folder / ENTRY).read_text())
    data = (folder / GRAPH).read_bytes()
    entries = {e.name: e for e in reference.manifest.files if not e.name.startswith("text_enc")}
    entries[WEIGHTS] = FileEntry(**{**said, "chunks": tuple(said["chunks"])})
    entries[GRAPH] = FileEntry(
        name=GRAPH, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
    )
    manifest = replace(reference.manifest, components=components, files=tuple(entries.values()))
    whole.mkdir()
    (whole / "manifest.json").write_text(write_manifest(manifest))
    for name in entries:
        own = name in (WEIGHTS, GRAPH)
        # Moved: a file of a bundle has no second name, and gigabytes are not copied.
        shutil.move(folder / name, whole) if own else shutil.copy(REFERENCE / name, whole)


def inside(folder: Path, megabytes: float) -> dict[str, float]:
    """Open the same graph with its weights inside."""
    path = folder / "inside.onnx"
    path.write_bytes(whole_graph(read(folder)))
    del folder
    return {"megabytes": megabytes, **in_child("whole", path.parent, megabytes)}


def whole(folder: Path, megabytes: float) -> dict[str, float]:
    """Read and open one file."""
    before = memory()["resident"]
    begun = time.perf_counter()
    engine = OrtEngine((folder / "inside.onnx").read_bytes())
    ready = {"seconds": time.perf_counter() - begun, **memory()}
    return {"megabytes": megabytes, "before": before, "run_seconds": ask(engine), **ready}


def stay(folder: Path, megabytes: float, kind: EngineKind) -> dict[str, float]:
    """Open and run it, say what was held before, and keep it until somebody says more."""
    before = rollup("self")
    engine = open_engine(read(folder), EngineChoice(kind, Precision.FP32, 1), cache=folder / "held")
    ask(engine)
    print(json.dumps(before), flush=True)
    sys.stdin.readline()
    return {"megabytes": megabytes}


def rollup(process: int | str) -> dict[str, float]:
    """MB of a process: its share of all it has, and what nobody else has."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {name: kib[name] / 976.5625 for name in ("Pss", "Private_Dirty")}


def together(folder: Path, megabytes: float, kind: EngineKind, count: int) -> dict[str, float]:
    """So many processes with it open at once: what each holds more than before, on average."""
    command = [sys.executable, "-m", "benchmarks.large_component", "--part", f"stay-{kind}"]
    command += ["--folder", str(folder), "--megabytes", str(megabytes)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen(command, **pipes, text=True) for _ in range(count)]
    before = [json.loads(child.stdout.readline()) for child in children if child.stdout]
    after = [rollup(child.pid) for child in children]
    for child in children:
        child.communicate("\n")
    pairs = list(zip(before, after, strict=True))
    return {key: sum(b[key] - a[key] for a, b in pairs) / count for key in after[0]}


PARTS: Mapping[str, Callable[[Path, float], dict[str, float]]] = {
    "export": export,
    "beside": beside,
    "inside": inside,
    "whole": whole,
    "export_blocks": export_blocks,
    "int8-block": partial(in_blocks, precision=Precision.INT8_BLOCK),
    "int4-block": partial(in_blocks, precision=Precision.INT4_BLOCK),
    "device": device,
    "stay-ort": partial(stay, kind=EngineKind.ORT),
    "stay-openvino": partial(stay, kind=EngineKind.OPENVINO),
}


def in_child(part: str, folder: Path, megabytes: float) -> dict[str, float]:
    """One part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large_component", "--part", part]
    command += ["--folder", str(folder), "--megabytes", str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{part}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    megabytes: float, processes: Collection[int] = (), *, blocks: bool = False
) -> dict[str, dict[str, float]]:
    """All parts, one after the other.

    Args:
        megabytes: of the component.
        processes: how many have it open at once, each number in turn.
        blocks: whether graphs in blocks are made and opened too.
    """
    with tempfile.TemporaryDirectory(prefix="large-component-") as name:
        folder = Path(name)
        found = {"export": in_child("export_blocks" if blocks else "export", folder, megabytes)}
        size = found["export"]["megabytes"]
        for part in ("int8-block", "int4-block") if blocks else ():
            found[part] = in_child(part, folder, size)
        found["beside"] = in_child("beside", folder, size)
        if size * 1.01e6 < MAX_MESSAGE_BYTES:
            found["inside"] = in_child("inside", folder, size)
        for kind in (EngineKind.ORT, EngineKind.OPENVINO) if processes else ():
            # The first of OpenVINO compiles, for the cache of the others.
            for count in (1, *processes) if kind is EngineKind.OPENVINO else processes:
                found[f"{kind} x{count}"] = together(folder, size, kind, count)
        found["device"] = in_child("device", folder, size)
    return found


def report(found: Mapping[str, Mapping[str, float]]) -> None:
    """The figures as a table; MB, and as shares of the component's size."""
    size = found["export"]["megabytes"]
    print(f"component {size:,.0f} MB")
    for part, row in found.items():
        if part == "device":
            print(f"a bundle of {row['bundle_mb']:,.1f} MB; at cut 0 {row['device_mb']:.3f} MB")
            continue
        if "Pss" in row:
            print(f"{part:12} {row['Pss']:6,.0f} MB each, of its own {row['Private_Dirty']:6,.0f}")
            continue
        base = row.get("before", row.get("imports", 0.0))
        held, peak = row["resident"] - base, row["peak"] - base
        print(
            f"{part:10} {row['seconds']:7.1f} s  resident {row['resident']:8,.0f} MB "
            f"({held / size:.2f}x more than before)  peak {row['peak']:8,.0f} MB "
            f"({peak / size:.2f}x)"
            + (f"  a run {1e3 * row['run_seconds']:,.0f} ms" if "run_seconds" in row else "")
        )
    row = found["beside"]
    more = (row["two_sessions"] - row["after_run"]) / size
    print(f"a second session: {more:+.1%} of the component")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--megabytes", type=float, default=2700, help="of the component (2700)")
    parser.add_argument("--blocks", action="store_true", help="8 and 4 bits too")
    parser.add_argument("--processes", default="", help="numbers of processes, as 1,2,4")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--part", choices=PARTS, help="this part alone, in this process")
    parser.add_argument("--folder", type=Path, help="where its files are")
    args = parser.parse_args()
    if args.part:
        print(json.dumps(PARTS[args.part](args.folder, args.megabytes)))
        return
    processes = [int(number) for number in args.processes.split(",") if number]
    found = measure(args.megabytes, processes, blocks=args.blocks)
    report(found)
    write_record(args.json, {"parts": found})


if __name__ == "__main__":
    main()
