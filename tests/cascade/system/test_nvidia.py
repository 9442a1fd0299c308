"""NVIDIA cards by the files of the kernel and the driver's tool, of machines that are not here."""

from pathlib import Path

from cascade.system.nvidia import Card, Nvidia, card_names, driver_version, nvidia_here

VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    "GCC version:  gcc version 12.2.0\n"
)
OPEN_VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build\n"


def put(path: Path, text: str = "") -> None:
    """A file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def with_card(root: Path, *, device: bool = True) -> None:
    """A machine whose driver serves a card."""
    put(root / "proc/driver/nvidia/version", VERSION)
    information = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 42\n"
    put(root / "proc/driver/nvidia/gpus/0000:01:00.0/information", information)
    if device:
        put(root / "dev/nvidia0")


def test_a_card_by_the_kernel_alone(tmp_path: Path) -> None:
    """Its name and the driver's version, without the tool."""
    with_card(tmp_path)
    assert card_names(tmp_path) == ("NVIDIA L4",)
    found = nvidia_here(tmp_path, "no-such-program")
    assert found == Nvidia(cards=(Card(name="NVIDIA L4"),), driver="550.54.15", has_device=True)


def test_a_container_without_the_card(tmp_path: Path) -> None:
    """It sees the host's driver and no device: there is no card for it."""
    with_card(tmp_path, device=False)
    assert card_names(tmp_path) == ()
    assert nvidia_here(tmp_path, "no-such-program") == Nvidia(driver="550.54.15")


def test_a_card_without_a_driver(tmp_path: Path) -> None:
    """The bus tells of display controllers of NVIDIA, and of no others."""
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"),
                               ("c", "0x1002", "0x030000")):  # fmt: skip
        put(tmp_path / "sys/bus/pci/devices" / name / "vendor", f"{vendor}\n")
        put(tmp_path / "sys/bus/pci/devices" / name / "class", f"{kind}\n")
    assert nvidia_here(tmp_path, "no-such-program") == Nvidia(on_bus=1)


def test_the_tool_tells_more(tmp_path: Path) -> None:
    """Memory and compute capability, by a program of that name."""
    tool = tmp_path / "nvidia-smi"
    put(
        tool, "#!/bin/sh\necho 'NVIDIA L4, 23034, 550.54.15, 8.9'\necho 'NVIDIA T4, [N/A], 550, '\n"
    )
    tool.chmod(0o755)
    found = nvidia_here(tmp_path, str(tool)).cards
    one = Card(name="NVIDIA L4", memory_mib=23034, driver="550.54.15", capability="8.9")
    assert found == (one, Card(name="NVIDIA T4", driver="550"))


def test_a_tool_that_fails(tmp_path: Path) -> None:
    """As where it is not there: it exits with an error when no driver is loaded."""
    tool = tmp_path / "nvidia-smi"
    put(tool, "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    tool.chmod(0o755)
    assert nvidia_here(tmp_path, str(tool)) == Nvidia()


def test_both_ways_to_say_the_version() -> None:
    """The closed driver's and the open one's."""
    assert driver_version(VERSION) == "550.54.15"
    assert driver_version(OPEN_VERSION) == "565.57.01"
    assert driver_version("") == ""
