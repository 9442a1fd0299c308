"""What do blocks of 8 and 4 bits make of the text encoder of emoji-1: bytes, memory, error?

    python -m benchmarks.block_encoder [--json FILE]

The encoder is exported in float32 and in both precisions, with its weights inside. Each file is
opened in ONNX Runtime in a process of its own: memory that it adds, peak while it is opened, and
CPU milliseconds of a run of 12 tokens, which a busy machine changes little. Error: worst PSNR of a
prompt's embeddings against float32, as the exporter judges them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.lib.record import write_record
from cascade.engines.ort import OrtEngine
from cascade.system.free_memory import give_back_free_memory

TOKENS = 12
RUNS = 41


def memory() -> dict[str, float]:
    """Resident memory of this process and its peak so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return {"resident": int(kib["VmRSS"]) / 976.5625, "peak": int(kib["VmHWM"]) / 976.5625}


def opened(file: Path) -> dict[str, float]:
    """What one file takes in this process."""
    before = memory()["resident"]
    engine = OrtEngine(file.read_bytes(), threads=2)
    peak = memory()["peak"]
    inputs = {
        "token_ids": np.arange(100, 100 + TOKENS)[None],
        "token_mask": np.ones((1, TOKENS), np.float32),
    }
    taken = []
    for _ in range(RUNS):
        begun = time.process_time()
        engine.run(inputs)
        taken.append(time.process_time() - begun)
    give_back_free_memory()
    return {
        "file_mb": file.stat().st_size / 1e6,
        "memory_mb": memory()["resident"] - before,
        "peak_mb": peak - before,
        "cpu_ms": 1e3 * statistics.median(taken),
    }


def export(folder: Path) -> dict[str, float]:
    """Write a file per precision; the error of each, decibels."""
    # Torch, which the processes that are measured must not load.
    from export.adapters.reference_cascade import reference_encoder, token_samples  # noqa: PLC0415
    from export.blocks.graph import FORMS, make_block_graph  # noqa: PLC0415
    from export.components.blocks import worst_context_db  # noqa: PLC0415
    from export.components.component import make_graph  # noqa: PLC0415
    from export.components.text_encoder import network_source  # noqa: PLC0415

    cases = token_samples()
    graph = make_graph(network_source(reference_encoder(), cases), print)
    (folder / "fp32.onnx").write_bytes(graph.stored)
    exact, found = OrtEngine(graph.stored), {"fp32": float("inf")}
    for precision, form in FORMS.items():
        made = make_block_graph(graph.optimized, form)
        assert made is not None
        (folder / f"{precision}.onnx").write_bytes(made.data)
        found[precision] = worst_context_db(exact, OrtEngine(made.data), cases)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--file", type=Path, help="open this one, in this process")
    args = parser.parse_args()
    if args.file:
        print(json.dumps(opened(args.file)))
        return
    rows = {}
    with tempfile.TemporaryDirectory(prefix="block-encoder-") as folder:
        for name, error in export(Path(folder)).items():
            command = [sys.executable, "-m", "benchmarks.block_encoder"]
            command += ["--file", f"{folder}/{name}.onnx"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows[name] = {**json.loads(said), "context_db": min(error, 200.0)}
    for name, row in rows.items():
        print(f"{name:11} " + "  ".join(f"{what} {value:.1f}" for what, value in row.items()))
    write_record(args.json, {"precisions": rows})


if __name__ == "__main__":
    main()
