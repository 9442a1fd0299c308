"""What does a client cost: installed size, import time, peak memory; and is torch really absent?

    python -m benchmarks.footprint [--json FILE]

Run it in an environment that holds `edge-cascade[cpu]` and nothing else (the command in
docs/evidence/measurements.md makes one); then the installed size is that of the client.
"""

import argparse
import statistics
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.lib.record import write_record

IMPORT = (
    "import time; t = time.perf_counter(); import runtime_client; print(time.perf_counter() - t)"
)

GENERATE = """
import resource, sys
from runtime_client import Client
with Client({bundle!r}, cut=2, server={server!r}) as client:
    client.generate("a red apple, noto style")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
loaded = [name for name in ("torch", "onnx", "stages", "export") if name in sys.modules]
print(peak, ",".join(loaded) or "none")
"""

TOOLS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils")
"""What every environment holds, by the first part of its names; not counted."""


def installed_megabytes() -> dict[str, float]:
    """Size of each installed top-level folder, the largest first."""
    site = Path(sysconfig.get_paths()["purelib"])
    sizes: dict[str, float] = {}
    for item in site.iterdir():
        if item.name.split("-")[0].lower() in TOOLS:
            continue
        files = item.rglob("*") if item.is_dir() else [item]
        sizes[item.name] = sum(f.stat().st_size for f in files if f.is_file()) / 1e6
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def output_of(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--server", help="a running server; a private one by default")
    parser.add_argument("--runs", type=int, default=7, help="imports timed")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = installed_megabytes()
    output_of(IMPORT)  # the first import writes byte code
    imports = [float(output_of(IMPORT)) for _ in range(args.runs)]
    code = GENERATE.format(bundle=str(args.bundle), server=args.server)
    peak, loaded = output_of(code).split()
    print(f"installed         {sum(sizes.values()):8.1f} MB")
    for name, size in list(sizes.items())[:12]:
        print(f"    {name:20} {size:6.1f}")
    print(f"import            {statistics.median(imports):8.3f} s (median of {args.runs})")
    print(f"peak memory       {float(peak):8.1f} MiB (client process, cut 2)")
    print(f"torch and ours that need it, loaded: {loaded}")
    figures = {"installed_mb": sizes, "import_s": imports, "peak_mib": float(peak)}
    write_record(args.json, {**figures, "loaded": loaded})


if __name__ == "__main__":
    main()
