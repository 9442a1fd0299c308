"""Times and rates as people write them: `80ms`, `10Mbit/s`.

Knows no setting that they belong to.
"""

import re

from cascade.errors import InvalidRequest

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")
RATE = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)bit(?:/s)?")
FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
UNSHAPED_WORDS = ("unshaped", "0")


def rate_name(bit_s: float) -> str:
    """A rate as people write it."""
    if not bit_s:
        return "unshaped"
    for unit in ("G", "M", "k"):
        if bit_s >= FACTORS[unit]:
            return f"{bit_s / FACTORS[unit]:g} {unit}bit/s"
    return f"{bit_s:g} bit/s"


def parse_duration(text: str, field: str) -> float:
    """`80ms`, `0.5s` or `0` in seconds.

    Raises:
        InvalidRequest: it is none of these.
    """
    match = DURATION.fullmatch(text.strip())
    if match is None or (match[2] is None and float(match[1]) != 0):
        raise InvalidRequest(
            f"{field}: expected a time such as 80ms or 0.5s, got {text[:40]!r}", field=field
        )
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def parse_rate(text: str, field: str) -> float:
    """`10Mbit/s` or `unshaped` in bits per second, 0 for unshaped.

    Raises:
        InvalidRequest: it is neither.
    """
    if text.strip() in UNSHAPED_WORDS:
        return 0.0
    match = RATE.fullmatch(text.strip().replace(" ", ""))
    if match is None or float(match[1]) == 0:
        raise InvalidRequest(
            f"{field}: expected a rate such as 10Mbit/s, or unshaped, got {text[:40]!r}",
            field=field,
        )
    return float(match[1]) * FACTORS[match[2]]
