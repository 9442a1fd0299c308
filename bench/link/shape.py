"""What a link does to bytes, as values with names that a grid can list. Knows no socket."""

from dataclasses import asdict, dataclass
from typing import Any

from cascade.errors import InvalidRequest
from cascade.quantities import parse_duration, rate_name

MOST_S = 60.0


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
