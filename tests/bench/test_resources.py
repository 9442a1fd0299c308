"""Processor, memory and energy as Linux says them, from files of the test's own."""

import os
from pathlib import Path

import pytest

from bench.resources import ResourceMeter, Usage


def write_process(proc: Path, ticks: tuple[int, int], peak_kib: int) -> None:
    """Files of process 7, whose name holds a bracket and spaces."""
    folder = proc / "7"
    folder.mkdir(parents=True, exist_ok=True)
    user, system = ticks
    (folder / "stat").write_text(f"7 (a) b) S 1 1 1 0 -1 4 0 0 0 0 {user} {system} 0 0\n")
    (folder / "status").write_text(f"Name:\ta\nVmHWM:\t  {peak_kib} kB\n")


def write_zone(powercap: Path, name: str, microjoules: int, most: int) -> None:
    """An energy counter."""
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_use_is_counted_from_the_begin(tmp_path: Path) -> None:
    """Ticks of both kinds; the peak is reset; a counter that began anew is carried over."""
    proc, powercap = tmp_path / "proc", tmp_path / "powercap"
    write_process(proc, (100, 50), 9999)
    write_zone(powercap, "intel-rapl:0", 9_000_000, 10_000_000)
    write_zone(powercap, "intel-rapl:0:0", 1, 10_000_000)
    meter = ResourceMeter({"server": 7}, proc, powercap)
    assert (proc / "7" / "clear_refs").read_text() == "5"
    write_process(proc, (300, 150), 2048)
    write_zone(powercap, "intel-rapl:0", 2_000_000, 10_000_000)
    assert meter.usage() == {"server": Usage(cpu_s=300 / os.sysconf("SC_CLK_TCK"), peak_mib=2.0)}
    assert meter.joules() == pytest.approx(3.0)


def test_what_the_system_does_not_say_is_unknown(tmp_path: Path) -> None:
    """No such process, no counters: None, and no failure."""
    meter = ResourceMeter({"client": 8}, tmp_path, tmp_path)
    assert meter.usage() == {"client": Usage(cpu_s=None, peak_mib=None)}
    assert meter.joules() is None
