"""What every benchmark writes: figures together with machine, versions and commit."""

import json
import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnxruntime", "grpcio", "protobuf", "pillow", "tokenizers")
EXTRA_PACKAGES = ("torch", "onnx", "openvino", "tensorrt_rtx_bindings")
"""Named where they are installed."""


def surroundings() -> dict[str, Any]:
    """Machine, versions and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {**{name: version(name) for name in PACKAGES}, **extra_versions()},
        "commit": commit.stdout.strip(),
    }


def extra_versions() -> dict[str, str]:
    """Versions of what only some environments have."""
    found = {}
    for name in EXTRA_PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def processor_name() -> str:
    """The processor as the system names it, with the vector extensions that matter here."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines: dict[str, str] = {}
    for line in info.read_text().splitlines():
        name, _, value = line.partition(":")
        lines[name.strip()] = value.strip()
    flags = lines.get("flags", "").split()
    wanted = [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni") if f in flags]
    return f"{lines.get('model name', '')} ({' '.join(wanted)})"


def write_record(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures and surroundings as JSON, if a path was given."""
    if path is not None:
        path.write_text(json.dumps({**figures, "surroundings": surroundings()}, indent=1) + "\n")
