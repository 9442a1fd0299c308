"""Threads of engines: as many as cores may be used, on no processor that is not allowed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cascade.engines.factory import EngineKind, installed_kinds
from cascade.system.cores import cpu_quota, engine_threads, usable_cores
from cascade.system.processor import this_processor

CPU_KINDS = [kind for kind in installed_kinds() if kind in (EngineKind.ORT, EngineKind.OPENVINO)]
HERE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
NEEDS_AFFINITY = pytest.mark.skipif(not HERE, reason="NO AFFINITY on this system")
GROUP = "/kubepods/pod7/worker"


def proc_of(folder: Path, *, groups: str, mounts: str) -> Path:
    """What the kernel says of a process, in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "cgroup").write_text(groups)
    (folder / "mountinfo").write_text(mounts)
    return folder


def mount(point: Path, kind: str, root: str = "/") -> str:
    """A line of `mountinfo`; `kind` is `cgroup2`, or the controllers of version 1."""
    system = "cgroup2" if kind == "cgroup2" else "cgroup"
    return f"31 23 0:26 {root} {point} rw,nosuid shared:4 - {system} {system} rw,{kind}\n"


def limit(folder: Path, text: str) -> None:
    """Write the limit of a group; the path says whether it is one of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    if "v1" in folder.as_posix():
        quota, period = text.split()
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    else:
        (folder / "cpu.max").write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000", 1.5), ("max 100000", None), ("25000 50000", 0.5), ("400000 100000", 4.0)],
)
def test_version_2_is_read(tmp_path: Path, text: str, cores: float | None) -> None:
    """Time per period, or no limit."""
    limit(tmp_path / "fs" / GROUP[1:], text)
    proc = proc_of(tmp_path / "p", groups=f"0::{GROUP}\n", mounts=mount(tmp_path / "fs", "cgroup2"))
    assert cpu_quota(proc) == cores


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 1.5), ("-1 100000", None), ("50000 100000", 0.5)]
)
def test_version_1_is_read(tmp_path: Path, text: str, cores: float | None) -> None:
    """Its controllers are mounted one by one, the processor's time beside whatever others."""
    limit(tmp_path / "v1" / GROUP[1:], text)
    limit(tmp_path / "v1 memory" / GROUP[1:], "1 100000")
    groups = f"9:memory:/elsewhere\n4:cpu,cpuacct:{GROUP}\n0::/\n"
    mounts = mount(tmp_path / "v1", "cpu,cpuacct") + mount(tmp_path / "none", "memory")
    assert cpu_quota(proc_of(tmp_path / "p", groups=groups, mounts=mounts)) == cores


def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    """A pod's limit holds for a container in it that has none, or a wider one."""
    root = tmp_path / "fs"
    proc = proc_of(tmp_path / "p", groups=f"0::{GROUP}\n", mounts=mount(root, "cgroup2"))
    limit(root / "kubepods" / "pod7" / "worker", "300000 100000")
    assert cpu_quota(proc) == 3
    limit(root / "kubepods" / "pod7", "200000 100000")
    assert cpu_quota(proc) == 2
    limit(root / "kubepods", "max 100000")
    assert cpu_quota(proc) == 2
    limit(root, "100000 100000")
    assert cpu_quota(proc) == 1


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    """The mount's root is the group's path, or the path is outside of what is mounted."""
    limit(tmp_path / "fs", "250000 100000")
    mounts = mount(tmp_path / "fs", "cgroup2", root=GROUP)
    for path in (GROUP, "/", "/../.."):
        proc = proc_of(tmp_path / "p", groups=f"0::{path}\n", mounts=mounts)
        assert cpu_quota(proc) == 2.5


@pytest.mark.parametrize(
    ("groups", "mounts"),
    [("", ""), ("0::/\n", ""), ("0::/x\n", "31 23 0:26 / /nowhere rw - cgroup2 cgroup2 rw\n")],
)
def test_nothing_to_read_is_no_limit(tmp_path: Path, groups: str, mounts: str) -> None:
    """No control groups, none mounted, or files that are not there."""
    assert cpu_quota(proc_of(tmp_path / "p", groups=groups, mounts=mounts)) is None
    assert cpu_quota(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "cores"), [("100 100000", 1), ("190000 100000", 1), ("6400000 100000", None)]
)
def test_cores_are_whole_and_at_least_one(tmp_path: Path, text: str, cores: int | None) -> None:
    """Half a core is one thread; a quota beyond the affinity leaves the affinity."""
    limit(tmp_path / "fs", text)
    proc = proc_of(tmp_path / "p", groups="0::/\n", mounts=mount(tmp_path / "fs", "cgroup2"))
    assert usable_cores(proc) == (cores or usable_cores())
    assert usable_cores(tmp_path / "absent") == (len(HERE) or os.cpu_count())


def test_a_number_that_was_asked_for_is_kept() -> None:
    """And 0 is one per usable core, the same number that the processor's record says."""
    assert engine_threads(7) == 7
    assert engine_threads(0) == usable_cores() == this_processor().cores >= 1


def threads_of(kind: EngineKind, processors: list[int]) -> dict[str, Any]:
    """What a child of that affinity says of an engine's threads."""
    code = (
        f"import os, runpy, sys; os.sched_setaffinity(0, {processors}); "
        "sys.argv = ['thread_report', sys.argv[1]]; "
        "runpy.run_module('tests.cascade.thread_report', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, kind.value], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@NEEDS_AFFINITY
@pytest.mark.parametrize("kind", CPU_KINDS)
@pytest.mark.parametrize("processor", HERE[:2])
def test_threads_stay_on_the_processor_that_is_allowed(kind: EngineKind, processor: int) -> None:
    """A process that may use one processor has no thread that may use another."""
    found = threads_of(kind, [processor])
    assert found["allowed"] == [str(processor)]
    if kind is EngineKind.ORT:
        assert found["added"] == 0  # the caller's thread does the work


@NEEDS_AFFINITY
@pytest.mark.parametrize("kind", CPU_KINDS)
def test_threads_may_go_wherever_the_process_may(kind: EngineKind) -> None:
    """No thread is pinned: two processes never wait for one processor beside an idle one."""
    found = threads_of(kind, HERE)
    assert len(found["allowed"]) == 1
    if kind is EngineKind.ORT:
        assert found["added"] == usable_cores() - 1
