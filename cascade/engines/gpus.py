"""Which engines of GPUs can be used here, found out before one of them is relied on.

A package that knows GPUs says nothing of the machine: the driver, the card, CUDA's libraries or
cuDNN may be missing, or be of another version. The one true answer is a run, in a process of its
own, for what does not fit may end the process. `ranked` and `device_of` are functions of what was
found; `gpus_here` looks. Knows engines by name; not bundles.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cascade.engines.cuda_driver import find_device
from cascade.engines.kinds import EngineKind

GPU_KINDS = (EngineKind.ORT_CUDA, EngineKind.ORT_TENSORRT, EngineKind.TENSORRT)
"""Preferred unmeasured in this order; CUDA's provider first, for it compiles nothing."""
TRIAL_S = 120.0
"""Longest time of one trial; TensorRT builds an engine in it."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """What this machine has for engines of GPUs.

    Attributes:
        card: name of the first card; empty where there is none.
        usable: engines that can be taken.
        refused: why others cannot, by engine.
    """

    card: str = ""
    usable: tuple[EngineKind, ...] = ()
    refused: Mapping[EngineKind, str] = field(default_factory=dict)


NO_GPUS = Gpus()


def ranked(kinds: Sequence[EngineKind], gpus: Gpus) -> tuple[EngineKind, ...]:
    """The installed engines as `auto` prefers them unmeasured.

    Engines of GPUs that can be used, those of processors, and last those of GPUs that cannot:
    somebody may still ask for one by name, and is told what is missing.
    """
    able = [kind for kind in GPU_KINDS if kind in kinds and kind in gpus.usable]
    cpu = [kind for kind in kinds if kind not in GPU_KINDS]
    return (*able, *cpu, *(kind for kind in kinds if kind not in (*able, *cpu)))


def device_of(kind: EngineKind, gpus: Gpus) -> str:
    """Where an engine computes, in words."""
    if kind is EngineKind.TRITON:
        return "Triton"
    return (gpus.card or "GPU") if kind in GPU_KINDS else "CPU"


def gpus_here(kinds: Sequence[EngineKind], *, measured: bool) -> Gpus:
    """Look at this machine. Costs nothing where no engine of GPUs is installed.

    Args:
        kinds: the installed engines.
        measured: `cascade tune` has tried them here already: none is tried again.
    """
    asked = [kind for kind in GPU_KINDS if kind in kinds]
    device = find_device() if asked else None
    return find_gpus(asked, "" if device is None else device.name, None if measured else trial)


def find_gpus(
    asked: Sequence[EngineKind], card: str, attempt: Callable[[EngineKind], str] | None
) -> Gpus:
    """What can be used; a function of its arguments.

    Args:
        asked: engines of GPUs that are installed, the preferred ones first.
        card: name of the first card; empty where there is none.
        attempt: why an engine cannot run here, empty where it can; None believes all of them.
    """
    if not card:
        return Gpus(refused=dict.fromkeys(asked, "there is no CUDA device"))
    if attempt is None:
        return Gpus(card, tuple(asked))
    refused: dict[EngineKind, str] = {}
    for kind in asked:
        why = attempt(kind)
        if not why:
            return Gpus(card, (kind,), refused)
        refused[kind] = why
    return Gpus(card, (), refused)


@lru_cache(maxsize=len(EngineKind))
def trial(kind: EngineKind) -> str:
    """Run a graph of one node in a process of its own; why that failed, empty where it did not."""
    command = [sys.executable, "-m", "cascade.engines.gpu_trial", kind.value]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TRIAL_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"nothing came of a trial in {TRIAL_S:g} s"
    if not done.returncode:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1][:300] if lines else f"a trial ended with {done.returncode}"
