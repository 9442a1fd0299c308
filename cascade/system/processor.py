"""The processor of this machine, as far as it decides how fast a graph runs, and in what.

Reads what the operating system says; measures nothing and knows no engine.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

from cascade.system.cores import usable_cores

CPUINFO = Path("/proc/cpuinfo")
FIRST_PROCESSOR_BYTES = 16 << 10
"""The first entry is enough; with hundreds of cores the whole file takes long to write out."""
INT8_DOT_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp"})
"""Instructions that multiply and add bytes into 32 bits in one go, on x86 and on ARM."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processor:
    """One machine's processor."""

    model: str
    flags: tuple[str, ...]
    """Instruction sets by the names of Linux, sorted; empty where the system does not tell."""
    cores: int
    """That this process may keep busy."""

    @property
    def has_int8_dot(self) -> bool:
        """Whether 8-bit convolutions gain from their own instructions here."""
        return not INT8_DOT_FLAGS.isdisjoint(self.flags)

    @property
    def has_bf16_tiles(self) -> bool:
        """Whether bfloat16 matrices are multiplied in tiles here, far faster than float32."""
        return "amx_bf16" in self.flags


def this_processor() -> Processor:
    """The processor that this process runs on."""
    try:
        with CPUINFO.open("rb") as file:
            text = file.read(FIRST_PROCESSOR_BYTES).decode("ascii", "replace")
    except OSError:
        text = ""
    model, flags = read_cpuinfo(text)
    return Processor(
        model=model or platform.processor() or platform.machine(),
        flags=flags,
        cores=usable_cores(),
    )


def read_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Model and flags of the first processor in the words of `/proc/cpuinfo`, x86 or ARM."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    numbers = ("vendor_id", "cpu family", "model", "stepping")
    parts = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")
    named = [found[n] for n in ("model name", *numbers, *parts) if n in found]
    flags = found.get("flags") or found.get("Features") or ""
    return " ".join(named), tuple(sorted(set(flags.split())))
