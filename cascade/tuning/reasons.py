"""Why a component runs as it does: the engine plan in words, and what became of measurements.

Knows plans and records; decides nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cascade.bundle.manifest import Manifest
from cascade.codecs.strict_json import from_json
from cascade.engines.gpus import GPU_KINDS
from cascade.errors import ManifestError
from cascade.families import cost_of
from cascade.family import ComponentSpec
from cascade.precision import Precision
from cascade.system.bounded_files import read_bounded
from cascade.tuning.plan import EnginePlan
from cascade.tuning.records import MAX_BYTES, Tuning, TuningKey

MOST_RECORDS = 200
"""Records that are looked through, the newest first."""


def reason_of(component: ComponentSpec, plan: EnginePlan, tuning: Tuning | None) -> str:
    """Why a plan runs a component as it does.

    Args:
        component: its entry in the manifest.
        plan: made for this machine, with `auto` for every component.
        tuning: what was measured here; None for nothing.
    """
    choice = plan.of(component.name)
    if component.name in plan.untuned:
        return f"not measured: {default_of(choice.kind in GPU_KINDS, choice.precision)}"
    times = {} if tuning is None else tuning.usable(component.name, cost_of(component).runs)
    pair = (choice.kind, choice.precision)
    if pair not in times:
        return "nothing else to choose from"
    fastest = min(times, key=lambda other: times[other])
    words = f"measured: {times[pair]:.1f} ms a picture"
    if fastest == pair:
        return f"{words}, the fastest of {len(times)}"
    return f"{words}, more exact than {fastest[0]} {fastest[1]} with {times[fastest]:.1f} ms"


def default_of(on_gpu: bool, precision: Precision) -> str:  # noqa: FBT001  one of two sentences
    """The rule that chose without a measurement; see `cascade.tuning.plan.choose`."""
    if on_gpu:
        return "the first engine for GPUs that runs here"
    if precision is Precision.INT8:
        return "the first engine installed, and 8-bit instructions are here"
    return "the first engine installed"


def unmeasured(manifest: Manifest, tuning: Tuning | None) -> tuple[str, ...]:
    """The components of which no measurement can be used."""
    return tuple(
        component.name
        for component in manifest.components
        if tuning is None or not tuning.usable(component.name, cost_of(component).runs)
    )


def outdated(folder: Path, key: TuningKey) -> str:
    """What has changed since this bundle was last measured here; empty where it never was.

    Args:
        folder: of the records.
        key: of this machine as it is now.
    """
    for record in newest(folder):
        if record.bundle_id != key.bundle_id or record == key:
            continue
        return ", ".join(changes(record, key))
    return ""


def newest(folder: Path) -> Iterator[TuningKey]:
    """The keys of the records in a folder, the newest first; what cannot be read is passed over."""
    try:
        paths = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    except OSError:
        return
    for path in paths[:MOST_RECORDS]:
        try:
            value = json.loads(read_bounded(path, MAX_BYTES))
            yield from_json(Tuning, value, "tuning").key
        except (OSError, ValueError, RecursionError, ManifestError):
            continue


def changes(then: TuningKey, now: TuningKey) -> list[str]:
    """What differs between two keys of one bundle, in words."""
    found = []
    if then.processor != now.processor:
        cores = f"{then.processor.cores} -> {now.processor.cores} cores"
        found.append(cores if then.processor.cores != now.processor.cores else "the processor")
    for name in sorted({*then.versions, *now.versions}):
        before, after = then.versions.get(name, "none"), now.versions.get(name, "none")
        if before != after:
            found.append(f"{name} {version_in(before)} -> {version_in(after)}")
    if then.threads != now.threads:
        found.append(f"{then.threads} -> {now.threads} threads")
    return found or ["the format of the record"]


def version_in(folder_name: str) -> str:
    """The version in the name of a metadata folder: 1.2.3 of `onnxruntime-1.2.3.dist-info`."""
    return folder_name.partition(".dist-info")[0].rsplit("-", 1)[-1]
