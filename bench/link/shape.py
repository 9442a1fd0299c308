"""What a link does to bytes, as values with names that a grid can list. Knows no socket."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from cascade.errors import InvalidRequest

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")
RATE = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)bit(?:/s)?")
FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
MOST_S = 60.0
UNSHAPED_WORDS = ("unshaped", "0")


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkShape:
    """A link between a client and a server."""

    rtt_s: float = 0.0
    """Round trip; half of it each way, and one whole before a new connection carries bytes."""
    up_bit_s: float = 0.0
    """Bits per second from the client to the server; 0 is unshaped."""
    down_bit_s: float = 0.0
    """And back."""
    loss: float = 0.0
    """Chance that a segment of 1448 bytes is lost; it and all behind it then come a round trip
    later, as after a fast retransmission."""
    stall_every_s: float = 0.0
    """The link stands still once in so long; 0 is never."""
    stall_s: float = 0.0
    """For so long."""
    seed: int = 0
    """Of the losses."""

    def __post_init__(self) -> None:
        """Check every bound."""
        for name in ("rtt_s", "stall_every_s", "stall_s"):
            if not 0 <= getattr(self, name) <= MOST_S:
                raise InvalidRequest(
                    f"{name.removesuffix('_s')}: expected 0 to {MOST_S:g} seconds, got "
                    f"{getattr(self, name):g}",
                    field=name.removesuffix("_s"),
                )
        if not 0 <= self.loss <= 0.5:
            raise InvalidRequest(f"loss: expected 0 to 0.5, got {self.loss:g}", field="loss")
        if self.stall_s and self.stall_every_s <= self.stall_s:
            raise InvalidRequest(
                "stall: it must last shorter than the time between two of them", field="stall"
            )

    @property
    def is_unshaped(self) -> bool:
        """Whether nothing is done to the bytes: then no proxy stands in between."""
        return not (self.rtt_s or self.up_bit_s or self.down_bit_s or self.loss or self.stall_s)

    @property
    def name(self) -> str:
        """In short, for keys and tables."""
        if self.is_unshaped:
            return "unshaped"
        down, up = rate_name(self.down_bit_s), rate_name(self.up_bit_s)
        rates = down if down == up else f"{down} down, {up} up"
        extras = f" loss {self.loss:g}" if self.loss else ""
        if self.stall_s:
            extras += f" stalls {self.stall_s:g} of {self.stall_every_s:g} s"
        return f"RTT {1000 * self.rtt_s:g} ms, {rates}{extras}"

    def as_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)


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


def parse_stalls(text: str) -> tuple[float, float]:
    """`500ms/10s` as how long a stall lasts and how often one comes, seconds; `0` is none.

    Raises:
        InvalidRequest: it is neither.
    """
    if text.strip() == "0":
        return 0.0, 0.0
    length, slash, every = text.partition("/")
    if not slash:
        raise InvalidRequest(
            f"stalls: expected LENGTH/PERIOD such as 500ms/10s, got {text[:40]!r}", field="stalls"
        )
    return parse_duration(length, "stalls"), parse_duration(every, "stalls")
