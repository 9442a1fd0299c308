"""Joules that this machine's processors have used, where Linux tells (RAPL). Knows no work."""

from collections.abc import Mapping
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

Counters = Mapping[str, tuple[float, float]]
"""By zone: joules so far, and where they begin anew."""


def package_joules(powercap: Path = POWERCAP) -> Counters:
    """Energy counters of the processor packages: joules so far, and where they begin anew.

    Returns:
        By zone; empty where there are none or they may not be read.
    """
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):
        # `intel-rapl:0:0` is a part of `intel-rapl:0`: counted there.
        if zone.name.count(":") != 1:
            continue
        try:
            found[zone.name] = (
                int((zone / "energy_uj").read_text()) / 1e6,
                int((zone / "max_energy_range_uj").read_text()) / 1e6,
            )
        except (OSError, ValueError):
            continue
    return found


def joules_between(then: Counters, now: Counters) -> float | None:
    """Of all packages together, whatever else ran; None where nothing is told."""
    shared = now.keys() & then.keys()
    if not shared:
        return None
    # A counter that is smaller than before has begun anew once.
    return sum((now[zone][0] - then[zone][0]) % now[zone][1] for zone in shared)
