"""How many cores this process may use: the one place that decides the threads of every engine.

Two limits count: the processors that the scheduler may put the process on, and the time that its
control group may spend per period (what `docker run --cpus` and Kubernetes set). An engine that is
left to itself sees the machine's cores: with more threads than cores they wait for each other, with
a quota all of them are stopped for the rest of every period. Reads what Linux says; elsewhere the
machine's cores are all there is to know. Knows no engine.

References:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files (`cpu.max`);
    https://docs.kernel.org/scheduler/sched-bwc.html (`cpu.cfs_quota_us`, `cpu.cfs_period_us`).
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC_SELF = Path("/proc/self")


def engine_threads(asked: int) -> int:
    """Threads of one run of an engine.

    Args:
        asked: by whoever opens it; 0 takes one per core that this process may use.

    Returns:
        At least 1, and never 0: engines take that for leave to pin threads to processors of their
        own choice.
    """
    return asked or usable_cores()


def usable_cores(proc: Path = PROC_SELF) -> int:
    """Cores that this process may keep busy, at least 1; parts of a core do not count.

    Args:
        proc: what the kernel says of the process.
    """
    # Not `os.cpu_count()`: in a container it counts the whole machine.
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = cpu_quota(proc)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(proc: Path = PROC_SELF) -> float | None:
    """Cores' worth of time that the control groups of this process allow; None for no limit.

    The tightest of its own group and of those around it, in version 1 or 2.

    Args:
        proc: what the kernel says of the process: `cgroup` and `mountinfo`.
    """
    try:
        groups = (proc / "cgroup").read_text("utf-8", "replace").splitlines()
        mounts = (proc / "mountinfo").read_text("utf-8", "replace").splitlines()
        quotas = [read_quota(folder) for folder in group_folders(groups, mounts)]
    except (OSError, ValueError):
        return None  # no such files, or none that look as Linux has them
    # The tightest group wins, as in the kernel.
    return min((quota for quota in quotas if quota is not None), default=None)


def group_folders(groups: list[str], mounts: list[str], controller: str = "cpu") -> Iterator[Path]:
    """Folders of the groups that bound a process, each followed by those around it.

    Args:
        groups: lines of `/proc/self/cgroup`: `number:controllers:path`, no controllers for
            version 2.
        mounts: lines of `/proc/self/mountinfo`; a container sees a group of its own as the root.
        controller: what they bound, as version 1 calls it: `cpu` or `memory`.
    """
    paths: dict[str, str] = {}
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = group
    for line in mounts:
        place, _, what = line.partition(" - ")
        system, *_, options = what.split(" ")
        root, point = place.split(" ")[3:5]
        mounted = system == "cgroup2" or (system == "cgroup" and controller in options.split(","))
        if not mounted or system not in paths:
            continue
        path = PurePosixPath(paths[system])
        inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
        yield Path(point) / inside
        yield from (Path(point) / parent for parent in inside.parents)


def read_quota(folder: Path) -> float | None:
    """Cores' worth of time that one control group allows; None where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text("ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
            period = (folder / "cpu.cfs_period_us").read_text("ascii")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None  # the machine's own group has no such file; "max" is no number
