"""Which engines run here, which one each component takes and why, and whether that was measured.

The plan is the one that `cascade generate` and `cascade serve` follow. Each engine is tried in a
process of its own: what ends that process does not end this one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cascade.bundle.bundle import Bundle
from cascade.diagnosis.findings import Finding, Topic
from cascade.diagnosis.shell import quoted
from cascade.diagnosis.software import pip, pip_extra
from cascade.engines.engine_cache import CACHE_FOLDER, built_targets
from cascade.engines.gpus import GPU_KINDS, Gpus, gpus_here, trial
from cascade.engines.kinds import EngineKind, installed_kinds
from cascade.errors import CascadeError
from cascade.system.nvidia import Nvidia
from cascade.tuning.options import EngineOptions
from cascade.tuning.plan import EnginePlan, plan_here
from cascade.tuning.reasons import outdated, reason_of, unmeasured
from cascade.tuning.records import Tuning, TuningKey, read_tuning, tuning_key

ENGINES, GPU = Topic("engines"), Topic("gpu")
PACKAGES = {EngineKind.ORT: "onnxruntime", EngineKind.OPENVINO: "openvino"}
"""Distributions of the engines of processors."""
TIME = "%Y-%m-%d %H:%M"


@dataclass(frozen=True, slots=True)
class Tried:
    """The engines of processors that are installed, and why some of them cannot run."""

    kinds: tuple[EngineKind, ...]
    refused: dict[EngineKind, str]


def try_engines(attempt: Callable[[EngineKind], str] = trial) -> Tried:
    """Run every installed engine of processors once, each in a process of its own, side by side."""
    kinds = tuple(kind for kind in installed_kinds() if kind not in GPU_KINDS)
    with ThreadPoolExecutor(max(1, len(kinds))) as pool:
        answers = dict(zip(kinds, pool.map(attempt, kinds), strict=True))
    return Tried(kinds, {kind: why for kind, why in answers.items() if why})


def installed_findings(tried: Tried) -> Iterator[Finding]:
    """The engines of processors."""
    for kind in tried.kinds:
        why = tried.refused.get(kind)
        if why is None:
            yield ENGINES.ok(f"engine {kind}", "installed, and one run of it was right")
        else:
            yield ENGINES.error(
                f"engine {kind}", f"installed, and cannot run: {why}",
                f"{pip()} install --force-reinstall --no-deps {PACKAGES[kind]}",
            )  # fmt: skip
    if not tried.kinds and not any(kind in GPU_KINDS for kind in installed_kinds()):
        yield ENGINES.error(
            "engines", "none is installed: only `cascade generate --cut 0 --server` works",
            pip_extra("cpu"),
        )  # fmt: skip


def gpu_findings(nvidia: Nvidia, gpus: Gpus, kinds: Sequence[EngineKind]) -> Iterator[Finding]:
    """What lies between this machine's cards and their use; nothing where there is no card.

    Args:
        nvidia: the cards.
        gpus: what came of trying the engines.
        kinds: the installed engines.
    """
    if not nvidia.cards:
        return
    installed = [kind for kind in GPU_KINDS if kind in kinds]
    if not installed:
        command = pip_extra("gpu")
        if EngineKind.ORT in kinds:
            command = f"{pip()} uninstall -y onnxruntime && {command}"
        yield GPU.warning("engines", "no engine for GPUs is installed", command, usable=[])
        return
    for kind, why in gpus.refused.items():
        yield GPU.warning(f"engine {kind}", f"installed, and cannot run: {why}", pip_extra("gpu"))
    for kind in gpus.usable:
        yield GPU.ok(f"engine {kind}", f"installed, and runs on {gpus.card}")
    missing = [kind for kind in GPU_KINDS if kind not in kinds]
    if missing:
        yield GPU.ok("engines", f"not installed: {', '.join(missing)}", missing=missing)


def plan_findings(bundle: Bundle, nvidia: Nvidia, cache: Path | None) -> Iterator[Finding]:
    """The engine of each component, and whether it was measured.

    Args:
        bundle: whose components.
        nvidia: the cards of this machine.
        cache: the user's folder; None where there is none.
    """
    key = tuning_key(bundle.bundle_id, 0)
    tuning = None if cache is None else read_tuning(cache / "tuning", key)
    kinds = installed_kinds()
    gpus = gpus_here(kinds, measured=False)
    yield from gpu_findings(nvidia, gpus, kinds)
    here = bundle.here()
    try:
        plan = plan_here(bundle.manifest, EngineOptions(), here)
    except CascadeError as exc:
        yield ENGINES.error("plan", str(exc), pip_extra("cpu"))
        return
    for component in (bundle.manifest.components[at] for at in here):
        choice, why = plan.of(component.name), reason_of(component, plan, tuning)
        words = f"{choice.kind} {choice.precision} on {plan.device(component.name)}; {why}"
        yield ENGINES.ok(
            component.name, words, engine=choice.kind.value, precision=choice.precision.value,
            device=plan.device(component.name),
        )  # fmt: skip
    yield of_tuning(bundle, plan, tuning, key, cache)
    if cache is not None and EngineKind.TENSORRT in {c.kind for c in plan.choices.values()}:
        yield of_built(bundle, nvidia, cache)


def of_tuning(
    bundle: Bundle, plan: EnginePlan, tuning: Tuning | None, key: TuningKey, cache: Path | None
) -> Finding:
    """Whether the engines were measured on this machine, for this bundle."""
    names = plan.untuned
    command = f"cascade tune {quoted(bundle.folder)}"
    if cache is not None and tuning is not None and not names:
        done = time.localtime((cache / "tuning" / key.file_name).stat().st_mtime)
        when = time.strftime(TIME, done)
        return ENGINES.ok("tuned", f"measured here at {when}, {len(tuning.measurements)} runs")
    if not names:
        return ENGINES.ok("tuned", "nothing to measure: there is one way to run each component")
    since = "" if cache is None else outdated(cache / "tuning", key)
    if tuning is None and since:
        words = f"measured before, and no longer true: {since}"
    elif tuning is None:
        words = "no engine has been measured on this machine for this bundle"
    else:
        lacking = [n for n in unmeasured(bundle.manifest, tuning) if n in plan.choices]
        words = f"not measured on this machine: {', '.join(lacking)}"
    return ENGINES.warning("tuned", words, command, untuned=list(names))


def of_built(bundle: Bundle, nvidia: Nvidia, cache: Path) -> Finding:
    """Whether the cache holds TensorRT engines for the first card of this machine."""
    card = nvidia.cards[0] if nvidia.cards else None
    found = list(built_targets(cache / "engines" / CACHE_FOLDER))
    fitting = [t for t in found if card is None or t == "portable" or card.capability in t]
    facts = {"built": len(found), "fitting": len(fitting)}
    if fitting:
        return GPU.ok("built engines", f"{len(fitting)} for this card in the cache", **facts)
    return GPU.warning(
        "built engines", f"none for this card among {len(found)} in the cache: the first start "
        "builds them, for minutes", f"cascade build-engines {quoted(bundle.folder)}", **facts,
    )  # fmt: skip
