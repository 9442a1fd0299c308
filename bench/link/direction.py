"""One direction of a link as arithmetic: when do bytes that arrive now come out at the other end?

A queue in front of a line of constant rate, then a constant delay, with order kept: what a router
with one interface does. All connections share the line. Pure: times are arguments, so that a test
runs it against a formula. Slow start, header bytes and queue overflow are not modelled.
"""

import random
from dataclasses import dataclass, field

SEGMENT_BYTES = 1448
"""Payload of one Ethernet frame's TCP segment with timestamps; losses are drawn for each."""


@dataclass(kw_only=True, slots=True)
class LinkDirection:
    """State of one direction.

    Attributes:
        bit_s: rate of the line; 0 is unlimited.
        delay_s: from the line's end to the other side.
        rtt_s: what a lost segment costs.
        loss: chance of that.
        stall_every_s: a stall begins at every multiple of it, from the first on; 0 is never.
        stall_s: its length.
        chance: of the losses.
    """

    bit_s: float
    delay_s: float
    rtt_s: float = 0.0
    loss: float = 0.0
    stall_every_s: float = 0.0
    stall_s: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    _free_at: float = 0.0
    _last_out: float = 0.0
    losses: int = 0

    def leaves_at(self, now: float, size: int) -> float:
        """When the last of some bytes is at the other end.

        Args:
            now: seconds since the link began; never less than before.
            size: bytes.
        """
        begun = max(now, self._free_at)
        self._free_at = begun + (8 * size / self.bit_s if self.bit_s else 0.0)
        out = self._free_at + self.delay_s
        for _ in range(-(-size // SEGMENT_BYTES) if self.loss else 0):
            if self.chance.random() < self.loss:
                self.losses += 1
                out += self.rtt_s
        # In order: what follows a lost segment waits for it.
        self._last_out = self._after_stall(max(out, self._last_out))
        return self._last_out

    def _after_stall(self, at: float) -> float:
        """The same time, or the end of the stall that it falls into."""
        if not (self.stall_every_s and self.stall_s) or at < self.stall_every_s:
            return at
        since = at % self.stall_every_s
        return at + self.stall_s - since if since < self.stall_s else at
