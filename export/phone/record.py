"""What `cascade export-phone` says of the files that it wrote: a line each, and `phone.json`.

Knows files and figures; no framework.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import Bundle
from export.phone.comparison import Agreement
from export.phone.subject import PhoneGraph

RECORD = "phone.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenFile:
    """One file on its way into the record."""

    subject: PhoneGraph
    path: Path
    agreement: Agreement | None
    """None where its runtime does not exist on this machine."""
    milliseconds: float | None
    """Median of some runs here; None where it did not run."""
    input_dtypes: Mapping[str, str]
    """By input, the dtype that the file takes."""

    @property
    def size_bytes(self) -> int:
        """Of the file, or of all files of a folder."""
        return sum(file.stat().st_size for file in files_of(self.path))

    def entry(self) -> dict[str, Any]:
        """For `phone.json`; a ratio that is infinite is left out, as JSON has no infinity."""
        found = {
            "file": self.path.name,
            "component": self.subject.component,
            "role": self.subject.role,
            "size_bytes": self.size_bytes,
            "sha256": digest_of(self.path),
            "inputs": [
                {**described(tensor), "dtype": self.input_dtypes[tensor.name]}
                for tensor in self.subject.inputs
            ],
            "outputs": [described(tensor) for tensor in self.subject.outputs],
            "exact": self.subject.exact,
            "was_run": self.agreement is not None,
        }
        if self.agreement is not None:
            found["differing"] = self.agreement.differing
            found["values"] = self.agreement.values
            if math.isfinite(self.agreement.psnr_db):
                found["psnr_db"] = round(self.agreement.psnr_db, 1)
        if self.milliseconds is not None:
            found["milliseconds"] = round(self.milliseconds, 2)
        return found

    def line(self) -> str:
        """For people."""
        start = f"{self.path.name}: {self.size_bytes:,} bytes"
        if self.agreement is None or self.milliseconds is None:
            return f"{start}, checked and not run: no such runtime on this machine"
        figures = self.agreement
        found = f"equal to {self.subject.compared_with} in {figures.values:,} values"
        if math.isfinite(figures.psnr_db):
            found = f"{figures.psnr_db:.1f} dB from {self.subject.compared_with}"
        return f"{start}, {self.milliseconds:.1f} ms a run here, {found}"


def described(tensor: Any) -> dict[str, Any]:
    """An input or output, for programs."""
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def files_of(path: Path) -> list[Path]:
    """The file itself, or every file of a folder, sorted."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def digest_of(path: Path) -> str:
    """The sha256 of a file; of a folder that of its files' names and bytes in order."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    total = hashlib.sha256()
    for file in files_of(path):
        total.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def write_record(
    folder: Path, bundle: Bundle, target: tuple[str, str], files: Sequence[WrittenFile]
) -> None:
    """Write `phone.json`.

    Args:
        folder: of the files.
        bundle: that they were made of.
        target: its name, and converter and runtime with their versions.
        files: in the order of the bundle.
    """
    name, version = target
    record = {
        "bundle_id": bundle.bundle_id,
        "target": name,
        "made_with": version,
        "files": [file.entry() for file in files],
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
