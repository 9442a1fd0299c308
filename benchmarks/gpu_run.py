"""Everything that needs a GPU, by one command within nine minutes, into one JSON.

    python -m benchmarks.gpu_run --json gpu.json        # or: make gpu
    python -m benchmarks.gpu_run --json cpu.json --device cpu --small    # the same way, no GPU

A bare Python with torch is enough, and no network: a part whose packages are missing says which. In
order: the tests marked `gpu`; hashes of an exact component with TF32 on and off; torch eager and
torch.compile on a stage of Imagen's size; TensorRT or ONNX Runtime on the same. Each part runs in a
process of its own and is stopped at its limit. The JSON is valid after every part.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORMAT = "edge-cascade gpu run 1"
BUDGET_S = 510.0
"""Of 540: the rest is for the start of the last process and for writing."""
LEAST_S = 5.0
"""A part that would get less is not begun."""
SAID = 2000
"""Characters of a failed part's words."""
Outcome = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuPart:
    """One process.

    Attributes:
        name: in the JSON.
        limit_s: after which it is stopped.
        needs: modules without which it is not begun.
    """

    name: str
    limit_s: float
    needs: tuple[str, ...] = ()

    def command(self, out: Path, device: str, *, small: bool) -> list[str]:
        """What is run; figures go to `out`."""
        if self.name == "tests":
            files = [str(path) for path in marked_tests()]
            return [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={out}", *files]
        words = [sys.executable, "-m", "benchmarks.lib.gpu_parts", self.name, "--out", str(out)]
        return [*words, "--device", device, *(["--small"] if small else [])]


PLAN = (
    GpuPart(name="tests", limit_s=120, needs=("pytest", "hypothesis", "onnxruntime", "onnx")),
    GpuPart(name="exact", limit_s=60, needs=("torch", "numpy")),
    GpuPart(name="torch", limit_s=150, needs=("torch", "numpy")),
    GpuPart(name="engine", limit_s=180, needs=("torch", "numpy", "onnx")),
)


def marked_tests() -> list[Path]:
    """Files with a test marked `gpu`."""
    folder = ROOT / "tests/cascade/engines"
    return [path for path in sorted(folder.glob("test_*.py")) if "mark.gpu" in path.read_text()]


def missing(part: GpuPart) -> list[str]:
    """Modules that it needs and that are not here."""
    return [name for name in part.needs if find_spec(name) is None]


def figures_of(part: GpuPart, out: Path) -> Outcome:
    """What a part has written, as far as it came."""
    if not out.exists():
        return {}
    if part.name != "tests":
        found: Outcome = json.loads(out.read_text())
        return found
    suites = list(ET.parse(out).getroot().iter("testsuite"))  # noqa: S314 - pytest wrote it
    counts = ("tests", "failures", "errors", "skipped")
    return {name: sum(int(suite.get(name, 0)) for suite in suites) for name in counts}


def run_part(part: GpuPart, left_s: float, device: str, *, small: bool) -> Outcome:
    """One part: its status, seconds and figures; never raises for what happens in it."""
    if absent := missing(part):
        return {"status": "not run", "reason": f"not installed: {', '.join(absent)}"}
    limit_s = min(part.limit_s, left_s)
    if limit_s < LEAST_S:
        return {"status": "not run", "reason": "no time left"}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures"
        try:
            done = subprocess.run(
                part.command(out, device, small=small),
                cwd=ROOT,
                timeout=limit_s,
                capture_output=True,
                text=True,
                check=False,
            )
            status, said = "done" if done.returncode == 0 else "failed", done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            status, said = "stopped", f"still running after {limit_s:.0f} s"
        found: Outcome = {"status": status, "seconds": round(time.monotonic() - begun, 1)}
        found["figures"] = figures_of(part, out)
    return found if status == "done" else {**found, "reason": said[-SAID:]}


def surroundings(device: str) -> Outcome:
    """The machine, as far as torch tells."""
    found: Outcome = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    found |= {"python": platform.python_version(), "cores": os.cpu_count(), "device": device}
    if find_spec("torch") is None:
        return found
    import torch  # noqa: PLC0415  the command line is read without it

    found["torch"] = torch.__version__
    if torch.cuda.is_available():
        found |= {
            "gpu": torch.cuda.get_device_name(),
            "compute_capability": list(torch.cuda.get_device_capability()),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def verdicts(parts: Mapping[str, Outcome]) -> Outcome:
    """The two answers: exact components equal, and how many times as fast as torch.compile."""
    exact = parts.get("exact", {}).get("figures", {}).values()
    equal = [row["equal"] for row in exact if "equal" in row]
    compiled = parts.get("torch", {}).get("figures", {}).get("torch.compile bf16", {})
    engines = parts.get("engine", {}).get("figures", {})
    faster = {
        name: compiled["median_s"] / row["median_s"]
        for name, row in engines.items()
        if isinstance(row, dict) and "median_s" in row and "median_s" in compiled
    }
    return {"exact_equal": all(equal) if equal else None, "times_torch_compile_bf16": faster}


def run_all(
    path: Path, parts: Sequence[GpuPart], device: str, *, small: bool,
    budget_s: float = BUDGET_S, clock: Callable[[], float] = time.monotonic,
) -> Outcome:  # fmt: skip
    """Every part within the budget; the file is written after each.

    Args:
        path: of the JSON.
        parts: in order.
        device: `cuda` or `cpu`.
        small: networks of a second instead of Imagen's size.
        budget_s: for all of them.
        clock: seconds.
    """
    begun, done = clock(), {}
    record: Outcome = {"format": FORMAT, "complete": False, "surroundings": surroundings(device)}
    for part in parts:
        print(f"gpu: {part.name}", flush=True)
        left_s = budget_s - (clock() - begun)
        done[part.name] = run_part(part, left_s, device, small=small)
        record |= {"parts": done, **verdicts(done), "seconds": round(clock() - begun, 1)}
        record["complete"] = len(done) == len(parts)
        path.write_text(json.dumps(record, indent=1) + "\n")
    return record


def main() -> int:
    """Run, and print what became of each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="networks of a second")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PLAN])
    args = parser.parse_args()
    if args.device == "cuda" and "gpu" not in surroundings("cuda"):
        print("gpu: torch sees no CUDA device here; --device cpu --small tries the way")
        return 3
    parts = [part for part in PLAN if not args.parts or part.name in args.parts]
    record = run_all(args.json, parts, args.device, small=args.small)
    for name, outcome in record["parts"].items():
        print(f"{name:8} {outcome['status']:8} {outcome.get('reason', '')[-200:]}")
    print(f"exact components equal: {record['exact_equal']}")
    for name, times in record["times_torch_compile_bf16"].items():
        print(f"{name}: {times:.2f} times as fast as torch.compile bf16")
    return 0


if __name__ == "__main__":
    sys.exit(main())
