"""Memory: of the machine, available, and allowed to the control group of this process."""

from pathlib import Path

import pytest

from cascade.system.memory_limits import Memory, memory_here

MEMINFO = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     600 kB\n"
KIB = 1024


def machine(folder: Path, version: int, limit: str, used: str) -> Memory:
    """What a machine of 1000 KiB with one control group tells."""
    (folder / "meminfo").write_text(MEMINFO)
    group = folder / "fs" / "pod"
    group.mkdir(parents=True)
    names = ("memory.max", "memory.current")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip(names, (limit, used), strict=True):
        (group / name).write_text(f"{text}\n")
    system, options = ("cgroup2", "rw") if version == 2 else ("cgroup", "rw,memory")
    (folder / "cgroup").write_text("0::/pod\n" if version == 2 else "5:memory:/pod\n")
    line = f"31 23 0:26 / {folder / 'fs'} rw shared:4 - {system} {system} {options}\n"
    (folder / "mountinfo").write_text(line)
    return memory_here(folder / "meminfo", folder)


@pytest.mark.parametrize("version", [1, 2])
def test_the_control_group_bounds_what_is_available(tmp_path: Path, version: int) -> None:
    """What it allows, less what it holds."""
    found = machine(tmp_path, version, str(500 * KIB), str(100 * KIB))
    assert found == Memory(total=1000 * KIB, available=400 * KIB, limit=500 * KIB)


@pytest.mark.parametrize(("version", "limit"), [(2, "max"), (1, "9223372036854771712")])
def test_a_group_without_a_limit_bounds_nothing(tmp_path: Path, version: int, limit: str) -> None:
    """Version 2 says so in a word, version 1 by a number beyond any memory."""
    found = machine(tmp_path, version, limit, "5")
    assert found == Memory(total=1000 * KIB, available=600 * KIB, limit=0)


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    """Zeros, and no error."""
    assert memory_here(tmp_path / "none", tmp_path / "none") == Memory()


def test_this_machine_has_memory() -> None:
    """More in all than is available, and some of it."""
    found = memory_here()
    assert 0 < found.available <= found.total
