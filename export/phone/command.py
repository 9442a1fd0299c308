"""What `cascade export-phone` does: every component converted, run, compared, and only then kept.

Knows the targets by name; each imports its framework when it is asked for.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median

from cascade.bundle.bundle import Bundle
from cascade.errors import InvalidRequest, MissingExtra
from export.phone.comparison import agreement_of
from export.phone.record import RECORD, WrittenFile, write_record
from export.phone.runtime import PhoneFile, Target
from export.phone.subject import PhoneGraph, subjects_of

Report = Callable[[str], None]
RUNS = 5
"""Timed runs of one file; the median is reported."""
TARGETS = {
    "executorch": ("export.phone.executorch_target", "ExecutorchTarget"),
    "litert": ("export.phone.litert_target", "LitertTarget"),
    "coreml": ("export.phone.coreml_target", "CoremlTarget"),
    "ort": ("export.phone.ort_target", "OrtTarget"),
}
"""Module and class of each target."""
EXTRAS = {name: f"phone-{name}" for name in TARGETS if name != "ort"} | {"ort": "export,cpu"}
"""The extra that installs a target's packages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhoneExport:
    """What is asked for."""

    target: str
    """One of `TARGETS`."""
    out: Path
    """Folder to write; new, empty, or of an earlier export."""
    components: Sequence[str] = ()
    """Names; empty for those that a device runs."""
    tokens: int | None = None
    """Length that prompts are filled to; None for the longest that the bundle takes."""


def open_target(name: str) -> Target:
    """A target with its framework imported.

    Raises:
        MissingExtra: its packages are not installed.
    """
    module, kind = TARGETS[name]
    try:
        found: Target = getattr(import_module(module), kind)()
    except ImportError as exc:
        raise MissingExtra(
            f"--target {name} needs: pip install 'edge-cascade[{EXTRAS[name]}]' in an environment "
            f"of its own: the frameworks pin versions of each other's packages ({exc})"
        ) from exc
    return found


def export_phone(bundle: Bundle, wanted: PhoneExport, report: Report) -> list[WrittenFile]:
    """Write a target's files and their record; all of them, or none.

    Args:
        bundle: opened.
        wanted: see `PhoneExport`.
        report: called with a line per file.

    Raises:
        InvalidRequest: a component or the folder cannot be meant.
        UnsupportedModel: a network cannot be read back or converted.
        ParityError: a file is not its network; names component and figure.
        MissingExtra: see `open_target`.
    """
    check_folder(wanted.out)
    target = open_target(wanted.target)
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{wanted.out.name}-", dir=wanted.out.parent))
    try:
        written = []
        for subject in subjects_of(
            bundle, wanted.components, wanted.tokens, needs_networks=not target.reads_graphs
        ):
            written.append(export_one(subject, target, fresh))
            report(written[-1].line())
        write_record(fresh, bundle, (wanted.target, target.version), written)
        fresh.chmod(0o755)
        if wanted.out.exists():
            shutil.rmtree(wanted.out)
        fresh.replace(wanted.out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return written


def check_folder(out: Path) -> None:
    """Refuse to take the place of what is no earlier export.

    Raises:
        InvalidRequest: a file, or a folder with something else in it.
    """
    is_other = out.exists() and not out.is_dir()
    if is_other or (out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file()):
        raise InvalidRequest(
            f"out: {out} holds something else than an earlier export, which would be deleted: "
            "name a new folder",
            field="out",
        )


def export_one(subject: PhoneGraph, target: Target, folder: Path) -> WrittenFile:
    """Convert, check, run and compare one graph."""
    path = folder / f"{subject.name}{target.suffix}"
    target.convert(subject, path)
    target.check(subject, path)
    file = target.open(subject, path)
    return WrittenFile(
        subject=subject,
        path=path,
        agreement=None if file is None else agreement_of(subject, file),
        milliseconds=None if file is None else timed(subject, file),
        input_dtypes=target.input_dtypes(subject, path),
    )


def timed(subject: PhoneGraph, file: PhoneFile) -> float:
    """Median milliseconds of one run; the comparison has warmed it up."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        file.run(subject.cases[0])
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds)
