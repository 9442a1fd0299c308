"""How much memory this machine has, how much is free, and how much this process may take.

Reads what Linux says; elsewhere nothing is known. Knows no engine.

References:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files (`memory.max`,
    `memory.current`); proc_meminfo(5).
"""

from dataclasses import dataclass
from pathlib import Path

from cascade.system.cores import PROC_SELF, group_folders

MEMINFO = Path("/proc/meminfo")
LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Limit and use of a control group in version 2, and in version 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes; 0 where the system does not tell."""

    total: int = 0
    """Of the machine."""
    available: int = 0
    """That may be taken now without swapping, the limit of the control groups counted."""
    limit: int = 0
    """Of the tightest control group; 0 for none."""


def memory_here(meminfo: Path = MEMINFO, proc: Path = PROC_SELF) -> Memory:
    """The memory of this machine and of this process.

    Args:
        meminfo: what the kernel says of the machine.
        proc: what it says of the process: `cgroup` and `mountinfo`.
    """
    total, free = read_meminfo(meminfo)
    groups = [found for folder in folders_of(proc) if (found := read_group(folder)) is not None]
    # A version 1 group without a limit has one beyond any memory.
    limited = [(limit, used) for limit, used in groups if not total or limit < total]
    available = min([free, *(max(0, limit - used) for limit, used in limited)])
    limit = min((limit for limit, _ in limited), default=0)
    return Memory(total=total, available=available, limit=limit)


def read_meminfo(path: Path) -> tuple[int, int]:
    """Bytes in all and available; 0 where they are not said."""
    try:
        lines = path.read_text("ascii", "replace").splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
    except (OSError, ValueError, IndexError):
        return 0, 0
    return kib.get("MemTotal", 0) << 10, kib.get("MemAvailable", 0) << 10


def folders_of(proc: Path) -> list[Path]:
    """Folders of the control groups that bound this process's memory."""
    try:
        groups = (proc / "cgroup").read_text("utf-8", "replace").splitlines()
        mounts = (proc / "mountinfo").read_text("utf-8", "replace").splitlines()
        return list(group_folders(groups, mounts, "memory"))
    except (OSError, ValueError):
        return []


def read_group(folder: Path) -> tuple[int, int] | None:
    """Limit and use of one control group in bytes; None where it sets no limit."""
    for limit, used in LIMITS:
        try:
            return int((folder / limit).read_text("ascii")), int((folder / used).read_text("ascii"))
        except (OSError, ValueError):
            continue  # "max" is no number; the root group has no such file
    return None
