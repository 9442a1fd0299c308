"""What was measured on this machine: how long each engine takes for each component of a bundle.

A record in the user's cache folder under a key of all that the times depend on. Knows how to keep
and find it; not how to measure (`cascade.commands.tune`) nor what to conclude
(`cascade.tuning.ranking`).
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cascade.codecs.strict_json import from_json, to_json
from cascade.engines.kinds import EngineKind
from cascade.errors import ManifestError
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.system.bounded_files import read_bounded
from cascade.system.processor import Processor, this_processor

FORMAT = 1
MAX_BYTES = 1 << 20
PACKAGES = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda")
"""By import name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One engine on one graph of one component."""

    component: str
    kind: EngineKind
    precision: Precision
    batch: int
    step_ms: float
    """Median of one run; 0 where it failed."""
    p10_ms: float
    p90_ms: float
    load_s: float
    difference: float
    """Relative RMS against ONNX Runtime float32 on the same inputs."""
    failed: str = ""
    """Why it cannot be used here; empty when it can."""
    role: str = NET
    """Which of the component's graphs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningKey:
    """All that the times depend on."""

    format: int
    bundle_id: str
    processor: Processor
    versions: dict[str, str]
    threads: int

    @property
    def file_name(self) -> str:
        """Name of the record's file."""
        text = json.dumps(to_json(self), sort_keys=True, separators=(",", ":"))
        return f"{hashlib.sha256(text.encode()).hexdigest()}.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """Everything measured under one key."""

    key: TuningKey
    measurements: tuple[Measurement, ...]

    def usable(
        self, component: str, runs: Mapping[str, int]
    ) -> dict[tuple[EngineKind, Precision], float]:
        """Milliseconds of every engine and precision that works for all graphs of a component.

        Args:
            component: its name.
            runs: of each graph for one request, by role.
        """
        run_ms: dict[tuple[EngineKind, Precision], dict[str, float]] = {}
        for m in self.measurements:
            if m.component == component and not m.failed:
                run_ms.setdefault((m.kind, m.precision), {})[m.role] = m.step_ms
        return {
            pair: sum(count * by_role[role] for role, count in runs.items())
            for pair, by_role in run_ms.items()
            # A way that was measured for some graphs only would look cheap for what it leaves out.
            if set(runs) <= set(by_role)
        }


def tuning_key(bundle_id: str, threads: int) -> TuningKey:
    """The key of this machine as it is now."""
    return TuningKey(
        format=FORMAT,
        bundle_id=bundle_id,
        processor=this_processor(),
        versions=installed_versions(),
        threads=threads,
    )


def installed_versions() -> dict[str, str]:
    """What is installed of each engine, by the names of its metadata folders; loads nothing.

    `importlib.metadata.version` reads and parses a file each, many times slower.
    """
    found: dict[str, str] = {}
    for module in PACKAGES:
        spec = find_spec(module)
        for location in (spec and spec.submodule_search_locations) or ():
            folders = Path(location).parent.glob(f"{module}*-info")
            found[module] = " ".join(sorted(folder.name for folder in folders))
    return found


def read_tuning(folder: Path, key: TuningKey) -> Tuning | None:
    """What was measured under a key; None when nothing was, or the file is not whole.

    A record only steers which engine runs, so one that cannot be read is as good as none.
    """
    try:
        text = read_bounded(folder / key.file_name, MAX_BYTES)
        found = from_json(Tuning, json.loads(text), "tuning")
    except (OSError, ValueError, RecursionError, ManifestError):
        return None
    # The file's name is a hash of the key: a file that was copied there is told by its content.
    return found if found.key == key else None


def write_tuning(folder: Path, tuning: Tuning) -> Path:
    """Keep what was measured; at every moment the file is the old one or the new one, whole."""
    # For this user alone: times tell little, but whoever writes here chooses engines.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / tuning.key.file_name
    temporary = folder / f".{secrets.token_hex(8)}"
    try:
        temporary.write_text(json.dumps(to_json(tuning), indent=1, sort_keys=True) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
