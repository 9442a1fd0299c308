"""Machine and cards, from values of machines that are not this one."""

from pathlib import Path

import pytest

from cascade.diagnosis.findings import Finding, Level
from cascade.diagnosis.machine import card_findings, driver_command, machine_findings
from cascade.system.memory_limits import Memory
from cascade.system.nvidia import Card, Nvidia
from cascade.system.processor import Processor

GIB = 1 << 30
AMX = Processor(model="Xeon GenuineIntel 6 143", flags=("amx_bf16", "avx2", "fpu"), cores=2)


def by_name(memory: Memory) -> dict[str, Finding]:
    """The findings of a machine with so much memory."""
    return {finding.name: finding for finding in machine_findings(AMX, memory)}


def test_the_processor_by_what_decides_speed() -> None:
    """Its name, and of its instruction sets those that engines gain from."""
    finding = by_name(Memory())["processor"]
    assert finding.text == "Xeon: avx2, amx_bf16"
    assert finding.facts["bf16_tiles"] is True
    assert finding.facts["int8"] is False


def test_little_memory_is_a_warning() -> None:
    """By what is available and not by what there is."""
    enough = by_name(Memory(total=8 * GIB, available=2 * GIB))["memory"]
    assert (enough.level, enough.text) == (Level.OK, "2.0 GiB of 8.0 GiB available")
    little = by_name(Memory(total=8 * GIB, available=GIB // 2, limit=GIB))["memory"]
    assert little.level is Level.WARNING
    assert "0.5 GiB of 8.0 GiB available, limited to 1.0 GiB" in little.text
    assert by_name(Memory())["memory"].level is Level.OK


@pytest.mark.parametrize(
    ("nvidia", "level", "words"),
    [
        (Nvidia(), Level.OK, "no NVIDIA card"),
        (Nvidia(on_bus=1), Level.WARNING, "a card is in this machine and NVIDIA's driver is not"),
        (Nvidia(driver="550.1"), Level.WARNING, "no card is visible to this process"),
        (
            Nvidia(
                cards=(Card(name="NVIDIA L4", memory_mib=23034, driver="550", capability="8.9"),)
            ),
            Level.OK,
            "NVIDIA L4 (23,034 MiB, compute capability 8.9); driver 550",
        ),
        (Nvidia(cards=(Card(name="NVIDIA L4"),), driver="550.1"), Level.OK, "driver 550.1"),
    ],
)
def test_a_card_and_what_hides_it(nvidia: Nvidia, level: Level, words: str) -> None:
    """No card, no driver, no device in the container, or the card."""
    (finding,) = card_findings(nvidia)
    assert (finding.level, words in finding.text) == (level, True), finding.text
    assert bool(finding.remedy) is (level is Level.WARNING)


def test_the_driver_of_a_distribution(tmp_path: Path) -> None:
    """By the distribution's own name; elsewhere the maker's page."""
    path = tmp_path / "os-release"
    path.write_text('NAME="Debian"\nID=debian\n')
    assert driver_command(path) == "sudo apt install nvidia-driver"
    path.write_text('ID="arch"\n')
    assert driver_command(path).startswith("# ")
    assert driver_command(tmp_path / "none").startswith("# ")
