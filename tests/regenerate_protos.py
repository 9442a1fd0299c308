"""Regenerate the wire's Python code, or check that what is checked in is what the tools make.

`python -m tests.regenerate_protos [--check]`
"""

import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
SOURCE = "protos/cascade/v1/cascade.proto"
WELL_KNOWN = Path(grpc_tools.__file__).with_name("_proto")


def generate(out: Path) -> None:
    """Run the compiler into a folder."""
    targets = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    code = protoc.main(["protoc", f"-I{ROOT}", f"-I{WELL_KNOWN}", *targets, str(ROOT / SOURCE)])
    if code:
        raise SystemExit(code)


def main() -> int:
    """Write the generated files, or compare them."""
    if "--check" not in sys.argv:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*.py*")}
    stale = [str(name) for name, data in fresh.items() if (ROOT / name).read_bytes() != data]
    if stale:
        sys.stderr.write(f"stale, run `make protos`: {', '.join(sorted(stale))}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
