"""The record of a run: one JSON object that says all that is needed to repeat and to judge it.

docs/reference/benchmark-record.md describes every field. Knows files and this machine.
"""

import datetime
import json
import os
import platform
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.attempt import Attempt
from cascade import __version__
from cascade.errors import InvalidRequest
from cascade.system.bounded_files import read_setting
from cascade.system.memory_limits import memory_here
from cascade.system.processor import this_processor

FORMAT = "cascade-bench/1"
GRID_FORMAT = "cascade-bench-grid/1"
PACKAGES = (
    "numpy", "pillow", "tokenizers", "grpcio", "protobuf", "onnxruntime", "openvino", "torch",
)  # fmt: skip
"""Named where they are installed."""
WANTED_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimddp")
MAX_RECORD_BYTES = 64 << 20
GZIP = b"\x1f\x8b"
"""First bytes of a compressed file (RFC 1952)."""
MICROSECONDS = 6
"""Decimals that are kept of a sample's time."""


def surroundings() -> dict[str, Any]:
    """Machine, versions, commit and present load."""
    processor = this_processor()
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "software": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {n: v for n in PACKAGES if (v := installed(n))},
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor.model,
        "instructions": [flag for flag in WANTED_FLAGS if flag in processor.flags],
        "cores": processor.cores,
        "memory_bytes": memory_here().total,
        "load_average": load_average(),
    }


def installed(package: str) -> str:
    """A package's version; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit() -> str:
    """Of the checkout that this code runs from; empty where it is none."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def load_average() -> float | None:
    """Processes that ran or waited for a core in the last minute, ours included."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def samples_of(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Attempts by column, in the order of their items; times in seconds from the begin."""
    ordered = sorted(attempts, key=lambda attempt: attempt.number)
    stages = list(dict.fromkeys(stage for a in ordered for stage in a.pictures_s))
    return {
        "number": [a.number for a in ordered],
        "due_s": [round(a.due_s, MICROSECONDS) for a in ordered],
        "sent_s": [round(a.sent_s, MICROSECONDS) for a in ordered],
        "done_s": [None if a.done_s is None else round(a.done_s, MICROSECONDS) for a in ordered],
        "pictures_s": {
            stage: [
                round(a.pictures_s[stage], MICROSECONDS) if stage in a.pictures_s else None
                for a in ordered
            ]
            for stage in stages
        },
        "error": [a.error for a in ordered],
    }


def write_json(path: Path, value: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a file whole or not at all; with no indent in as few bytes as JSON allows."""
    separators = None if indent else (",", ":")
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(value, indent=indent, separators=separators, allow_nan=False) + "\n")
    part.replace(path)


def read_record(path: Path, formats: Sequence[str] = (FORMAT,)) -> dict[str, Any]:
    """A record from its file.

    Args:
        path: of the file, JSON or JSON in gzip.
        formats: those that will do.

    Raises:
        InvalidRequest: it cannot be read, or is of none of the formats.
    """
    data = unpacked(path.name, read_setting(path, "record", MAX_RECORD_BYTES))
    try:
        value = json.loads(data)
    except ValueError as exc:
        raise InvalidRequest(f"record: {path.name} is no JSON: {exc}", field="record") from exc
    found = value.get("format") if isinstance(value, dict) else None
    if found not in formats:
        raise InvalidRequest(
            f"record: {path.name}: expected the format {' or '.join(formats)}, got {found!r}",
            field="record",
        )
    return dict(value)


def unpacked(name: str, data: bytes) -> bytes:
    """The JSON of a record that may be compressed.

    Raises:
        InvalidRequest: it is damaged, or larger than `MAX_RECORD_BYTES` once unpacked.
    """
    if not data.startswith(GZIP):
        return data
    stream = zlib.decompressobj(wbits=31)  # gzip, with its checksum
    try:
        found = stream.decompress(data, MAX_RECORD_BYTES + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"record: {name} is damaged: {exc}", field="record") from exc
    if len(found) > MAX_RECORD_BYTES or not stream.eof:
        raise InvalidRequest(
            f"record: {name} is cut off, or has over {MAX_RECORD_BYTES} bytes unpacked",
            field="record",
        )
    return found
