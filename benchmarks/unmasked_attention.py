"""What does attention without a mask cost as torch exports it, and as one operator?

    python -m benchmarks.unmasked_attention [--tokens 4096 16384] [--heads 2] [--json FILE]

One block, projections included, is exported for each length with the product's exporter: plain,
and with its passes. Each file is run in ONNX Runtime in a process of its own, `--threads` threads,
in turns: seconds of a run, median of `--rounds` after one that is not counted, and the peak of
memory above what was resident before the graph was opened. Worst difference between the two in
decibels of the plain answer's range. The plain graph holds the logits, `heads x tokens^2` numbers
of 4 bytes, more than once: 16,384 tokens with 2 heads take over 4 GB.
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
from cascade.graph_spec import TensorSpec

WIDTH = 64
FORMS = ("plain", "fused")


def memory_mb(line: str) -> float:
    """A figure of this process: `VmRSS`, resident now, or `VmHWM`, its peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    (found,) = [int(entry.split()[1]) for entry in status if entry.startswith(line)]
    return found / 976.5625


def run_file(file: Path, tokens: int, threads: int) -> dict[str, float]:
    """Seconds of one run after another that is not counted, and the peak; the answer is kept."""
    before = memory_mb("VmRSS")
    engine = OrtEngine(file.read_bytes(), threads=threads)
    values = np.random.default_rng(0).standard_normal((1, tokens, WIDTH)).astype(np.float32)
    engine.run({"x": values})
    begun = time.perf_counter()
    answer = engine.run({"x": values})["y"]
    seconds = time.perf_counter() - begun
    np.save(file.with_suffix(".npy"), answer)
    return {"seconds": seconds, "peak_mb": memory_mb("VmHWM") - before}


def write_graphs(folder: Path, tokens: int, heads: int) -> None:
    """`plain.onnx` and `fused.onnx` of one block."""
    # Torch, which the processes that are measured must not load.
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    from export.graphs import export_graph  # noqa: PLC0415
    from export.passes.attention import fuse_attention  # noqa: PLC0415

    class UnmaskedSelfAttention(nn.Module):
        """Self-attention over `[B, N, C]`."""

        def __init__(self) -> None:
            super().__init__()
            self.to_qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows, length, _ = x.shape
            q, k, v = (
                side.reshape(rows, length, heads, -1).transpose(1, 2)
                for side in self.to_qkv(x).chunk(3, dim=-1)
            )
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(mixed.transpose(1, 2).reshape(rows, length, WIDTH))

    torch.manual_seed(0)
    shape = ("batch", tokens, WIDTH)
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name in ("x", "y")]
    model = export_graph(UnmaskedSelfAttention().eval(), specs[:1], specs[1:])
    (folder / "plain.onnx").write_bytes(model.SerializeToString())
    if fuse_attention(model) != 1:
        raise RuntimeError("the pass did not find the attention")
    (folder / "fused.onnx").write_bytes(model.SerializeToString())


def agreement_db(folder: Path) -> float:
    """PSNR of the fused answer, the plain one's range as the peak."""
    plain, fused = (np.load(folder / f"{form}.npy").astype(np.float64) for form in FORMS)
    return float(20 * np.log10(np.ptp(plain) / np.sqrt(np.mean((plain - fused) ** 2))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 16384], help="lengths")
    parser.add_argument("--heads", type=int, default=2, help=f"of {WIDTH} channels (2)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each form in turns (3)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (1)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--file", type=Path, help="run this one, in this process")
    args = parser.parse_args()
    if args.file:
        print(json.dumps(run_file(args.file, args.tokens[0], args.threads)))
        return
    rows = []
    for tokens in args.tokens:
        with tempfile.TemporaryDirectory(prefix="attention-") as name:
            folder = Path(name)
            write_graphs(folder, tokens, args.heads)
            found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
            for form in FORMS * args.rounds:
                command = [sys.executable, "-m", "benchmarks.unmasked_attention", "--file"]
                command += [str(folder / f"{form}.onnx"), "--tokens", str(tokens)]
                command += ["--threads", str(args.threads)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[form].append(json.loads(done.stdout))
            for form, runs in found.items():
                seconds = statistics.median(run["seconds"] for run in runs)
                peak = max(run["peak_mb"] for run in runs)
                rows.append({"tokens": tokens, "form": form, "seconds": seconds, "peak_mb": peak})
                print(f"{tokens:6} tokens  {form:6} {seconds:8.3f} s  peak {peak:8.1f} MB")
            print(f"{tokens:6} tokens  agreement {agreement_db(folder):.1f} dB", flush=True)
    write_record(args.json, {"heads": args.heads, "width": WIDTH, "rows": rows})


if __name__ == "__main__":
    main()
