"""What the processes of both sides use: processor, peak memory, and joules of the machine.

Reads what Linux says of a process and of its energy counters (RAPL); None where it says nothing. A
server on another machine is out of sight.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade.system.energy import POWERCAP, joules_between, package_joules

PROC = Path("/proc")
RESET_PEAK = "5"
"""Written to `clear_refs`: the peak of resident memory counts from now on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """One side's use in a window; None is unknown."""

    cpu_s: float | None
    peak_mib: float | None


def cpu_seconds(process_id: int, proc: Path = PROC) -> float | None:
    """Seconds of processor that a process has used, its ended children not counted."""
    try:
        fields = (proc / str(process_id) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def peak_mib(process_id: int, proc: Path = PROC) -> float | None:
    """Most resident memory since the peak was reset, MiB."""
    try:
        for line in (proc / str(process_id) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, IndexError, ValueError):
        pass
    return None


def reset_peak(process_id: int, proc: Path = PROC) -> None:
    """Let the peak count from now on, where the system allows it."""
    try:
        (proc / str(process_id) / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return


class ResourceMeter:
    """What is used from its making on."""

    def __init__(
        self, processes: Mapping[str, int], proc: Path = PROC, powercap: Path = POWERCAP
    ) -> None:
        """Begin.

        Args:
            processes: ids by side.
            proc: as Linux has it.
            powercap: likewise.
        """
        self._processes, self._proc, self._powercap = dict(processes), proc, powercap
        for process_id in self._processes.values():
            reset_peak(process_id, proc)
        self._cpu = {side: cpu_seconds(p, proc) for side, p in self._processes.items()}
        self._joules = package_joules(powercap)

    def usage(self) -> dict[str, Usage]:
        """By side, since the begin."""
        found = {}
        for side, process_id in self._processes.items():
            now, then = cpu_seconds(process_id, self._proc), self._cpu[side]
            found[side] = Usage(
                cpu_s=None if now is None or then is None else now - then,
                peak_mib=peak_mib(process_id, self._proc),
            )
        return found

    def joules(self) -> float | None:
        """Of all packages of this machine together, whatever else ran; None where unknown."""
        return joules_between(self._joules, package_joules(self._powercap))
