"""Processor, cores and memory of this machine, and what is missing before a card can be used.

Looks; runs no engine.
"""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from cascade.diagnosis.findings import Finding, Topic
from cascade.system.cores import cpu_quota, usable_cores
from cascade.system.memory_limits import Memory, memory_here
from cascade.system.nvidia import Card, Nvidia
from cascade.system.processor import Processor, this_processor

SHOWN_FLAGS = (
    "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
"""Instruction sets that decide how fast a graph runs, by Linux's names."""
LEAST_BYTES = 1 << 30
"""A server of the reference bundle takes about as much (docs/how-to/choose-engine-and-precision.md
names the command that says it for any bundle)."""
OS_RELEASE = Path("/etc/os-release")
DRIVER_COMMANDS = {
    "debian": "sudo apt install nvidia-driver",
    "ubuntu": "sudo ubuntu-drivers install",
}
DRIVER_PAGE = "# install NVIDIA's driver: https://www.nvidia.com/drivers"
MACHINE, GPU = Topic("machine"), Topic("gpu")


def machine_findings(
    processor: Processor | None = None, memory: Memory | None = None
) -> Iterator[Finding]:
    """System, processor, cores and memory.

    Args:
        processor: None takes this one.
        memory: None looks.
    """
    processor = this_processor() if processor is None else processor
    words = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield MACHINE.ok("system", words, system=sys.platform, machine=platform.machine())
    flags = [flag for flag in SHOWN_FLAGS if flag in processor.flags]
    sets = ", ".join(flags) or "no instruction set that helps"
    tuned = {"int8": processor.has_int8_dot, "bf16_tiles": processor.has_bf16_tiles}
    model = processor.model.partition(" GenuineIntel")[0].partition(" AuthenticAMD")[0]
    yield MACHINE.ok("processor", f"{model}: {sets}", model=model, flags=flags, **tuned)
    yield of_cores()
    yield of_memory(memory_here() if memory is None else memory)


def of_cores() -> Finding:
    """Cores that the machine has, and those that this process may use."""
    seen, allowed, quota = os.cpu_count() or 1, usable_cores(), cpu_quota()
    limit = "" if quota is None else f", a quota of {quota:g} cores"
    facts = {"seen": seen, "allowed": allowed, "quota": quota}
    if quota is not None and quota < 1:
        return MACHINE.warning(
            "cores", f"{allowed} of {seen} may be used{limit}: every engine is stopped for a part "
            "of every period", "# allow this container a core or more: docker run --cpus 1",
            **facts,
        )  # fmt: skip
    return MACHINE.ok("cores", f"{allowed} of {seen} may be used{limit}", **facts)


def of_memory(memory: Memory) -> Finding:
    """Memory in all, available, and allowed."""
    limit = f", limited to {in_gib(memory.limit)}" if memory.limit else ""
    words = f"{in_gib(memory.available)} of {in_gib(memory.total)} available{limit}"
    facts = {"total": memory.total, "available": memory.available, "limit": memory.limit}
    if memory.total and memory.available < LEAST_BYTES:
        return MACHINE.warning(
            "memory", f"{words}: a server of the reference bundle takes about "
            f"{in_gib(LEAST_BYTES)}", "cascade serve --dry-run", **facts,
        )  # fmt: skip
    return MACHINE.ok("memory", words if memory.total else "the system does not tell", **facts)


def in_gib(size: int) -> str:
    """Bytes for people."""
    return f"{size / (1 << 30):.1f} GiB"


def card_findings(nvidia: Nvidia) -> Iterator[Finding]:
    """The cards, and what keeps this process from them."""
    facts = {
        "cards": [
            {"name": c.name, "memory_mib": c.memory_mib, "compute_capability": c.capability}
            for c in nvidia.cards
        ],
        "driver": nvidia.driver or next((c.driver for c in nvidia.cards), ""),
    }
    if nvidia.cards:
        words = ", ".join(map(card_words, nvidia.cards))
        driver = f"; driver {facts['driver']}" if facts["driver"] else ""
        yield GPU.ok("card", f"{words}{driver}", **facts)
    elif nvidia.driver:
        yield GPU.warning(
            "card", f"driver {nvidia.driver} is loaded, and no card is visible to this process: "
            "a container must be given it",
            "# start the container with the card: docker run --gpus all", **facts,
        )  # fmt: skip
    elif nvidia.on_bus:
        number = "a card is" if nvidia.on_bus == 1 else f"{nvidia.on_bus} cards are"
        yield GPU.warning(
            "card", f"{number} in this machine and NVIDIA's driver is not loaded",
            driver_command(OS_RELEASE), **facts,
        )  # fmt: skip
    else:
        yield GPU.ok("card", "no NVIDIA card: everything runs on the CPU", **facts)


def card_words(card: Card) -> str:
    """One card for people."""
    memory = f"{card.memory_mib:,} MiB" if card.memory_mib else ""
    known = [memory, f"compute capability {card.capability}" if card.capability else ""]
    words = ", ".join(filter(None, known))
    return f"{card.name} ({words})" if words else card.name


def driver_command(path: Path) -> str:
    """What installs the driver on this distribution."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition("=")
        if name == "ID":
            return DRIVER_COMMANDS.get(value.strip("\"'"), DRIVER_PAGE)
    return DRIVER_PAGE
