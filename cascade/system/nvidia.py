"""NVIDIA cards of this machine, by what the kernel and the driver's own tool say.

Loads no library into this process: a broken driver can end it. Knows files and one program; not
engines.

References:
    https://download.nvidia.com/XFree86/Linux-x86_64/ (README, "Using the /proc file system");
    https://docs.nvidia.com/deploy/nvidia-smi/ (`--query-gpu`); 0x10de is NVIDIA's number on PCI,
    0x03 the class of display controllers.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
VENDOR = "0x10de"
DISPLAY = "0x03"
QUERY = "name,memory.total,driver_version,compute_cap"
ANSWER_S = 20.0
"""A driver that initialises many cards takes some seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One card, as the driver describes it."""

    name: str
    memory_mib: int = 0
    """0 where nobody says."""
    driver: str = ""
    capability: str = ""
    """Compute capability, such as `8.6`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Nvidia:
    """What there is of NVIDIA here."""

    cards: tuple[Card, ...] = ()
    """That the driver serves."""
    on_bus: int = 0
    """Cards on the PCI bus, served or not."""
    driver: str = ""
    """Version of the kernel's driver; empty where it is not loaded."""
    has_device: bool = False
    """Whether this process sees a device file: in a container it may not."""


def card_names(root: Path = ROOT) -> tuple[str, ...]:
    """The cards that the kernel's driver serves; costs microseconds where there are none.

    Args:
        root: of the file system.
    """
    names = []
    for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        lines = read_text(file).splitlines()
        model = next((line.partition(":")[2] for line in lines if line.startswith("Model")), "")
        names.append(model.strip() or "NVIDIA card")
    # Without a device file the cards are the host's and not this container's.
    return tuple(names) if has_device(root) else ()


def nvidia_here(root: Path = ROOT, program: str = "nvidia-smi") -> Nvidia:
    """All that can be found out without loading a library.

    Args:
        root: of the file system.
        program: the driver's tool; it runs as a process of its own.
    """
    named = tuple(Card(name=name) for name in card_names(root))
    return Nvidia(
        cards=ask_tool(program) or named,
        on_bus=cards_on_bus(root),
        driver=driver_version(read_text(root / "proc/driver/nvidia/version")),
        has_device=has_device(root),
    )


def has_device(root: Path) -> bool:
    """Whether a device file of a card is there."""
    return next(root.glob("dev/nvidia[0-9]*"), None) is not None


def cards_on_bus(root: Path) -> int:
    """Display controllers of NVIDIA on the PCI bus."""
    return sum(
        read_text(folder / "vendor").strip() == VENDOR
        and read_text(folder / "class").startswith(DISPLAY)
        for folder in root.glob("sys/bus/pci/devices/*")
    )


def driver_version(text: str) -> str:
    """The version in the words of `/proc/driver/nvidia/version`; empty where there is none."""
    words = text.partition("Kernel Module")[2].split()
    numbers = [word for word in words if word[0].isdigit() and "." in word]
    return numbers[0] if numbers else ""


def ask_tool(program: str) -> tuple[Card, ...]:
    """The cards that the driver's tool lists; none where it is not there or fails."""
    path = shutil.which(program)
    if path is None:
        return ()
    command = [path, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return () if done.returncode else tuple(map(read_card, done.stdout.splitlines()))


def read_card(line: str) -> Card:
    """One line of the tool: name, MiB, driver, compute capability."""
    name, memory, driver, capability = [*(part.strip() for part in line.split(",")), "", "", ""][:4]
    mib = int(memory) if memory.isdigit() else 0
    return Card(name=name, memory_mib=mib, driver=driver, capability=capability)


def read_text(path: Path) -> str:
    """A small file of the kernel; empty where it is not there."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
