"""What one run on a server cost: bytes each way, and seconds by name.

Puts together the clock here and what the server reports, so that no second is counted twice. Knows
no message.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

PACK, SERVER_PACK, UNPACK = "pack", "server pack", "unpack"
PACKING = (PACK, SERVER_PACK, UNPACK)
"""Encoding here what goes up, encoding there what comes down, decoding it here."""


@dataclass(slots=True)
class TransferStats:
    """What was measured so far."""

    bytes_up: int = 0
    bytes_down: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Measured here: `connect`, `queue` (for a slot among this client's requests), `serialise`,
    `upload` (of a context, as far as it was waited for), and the waits for the first event
    (`first`) and for the later ones (`later`)."""
    reported: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """What the components' results said; already passed on with them."""
    packing: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PACKING, 0.0))
    """What `serialise` consists of, see `PACKING`; that of the server is known at the end."""
    result_bytes: dict[str, int] = field(default_factory=dict)
    """Of the encoded picture of each component."""
    result_formats: dict[str, str] = field(default_factory=dict)
    """In which each of them came."""
    call_bytes: int = 0
    """Of the last call that was sent."""
    picture_bytes: int = 0
    """Of the encoded picture in it."""
    first_s: float = 0.0
    """From sending it to its first event."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the time of the block under that name, also when it fails."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begun

    @contextmanager
    def timed_packing(self, part: str) -> Iterator[None]:
        """Count the time of the block as `serialise`, and as that part of it."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self.seconds["serialise"] += spent
            self.packing[part] += spent

    def report(self, seconds: Mapping[str, float]) -> None:
        """Note what a component's result says of its time."""
        for name, spent in seconds.items():
            self.reported[name] += spent

    def finalize(
        self, server: Mapping[str, float], components: Collection[str]
    ) -> dict[str, float]:
        """The seconds for `Transferred`.

        The wire's time is the waiting for events that the server does not claim: `upload` up to the
        first event, `download` after it. What the server did besides queueing and running
        components (encoding pictures) is `serialise`; as far as it went on while components ran, it
        took no time of its own and is left out.

        Args:
            server: seconds by name from the end of the stream, totals of the whole call.
            components: names that ran there; their time came with their own results.

        Returns:
            `connect`, `serialise`, `upload`, `queue`, `download`: what no result has told.
        """
        found = {name: self.seconds[name] for name in ("connect", "serialise", "upload")}
        others = sum(s for name, s in server.items() if name != "queue" and name not in components)
        # What results have told of the queue already is not counted again.
        queued = max(0.0, server.get("queue", 0.0) - self.reported["queue"])
        found["queue"] = self.seconds["queue"] + queued
        claimed = sum(self.reported.values()) + queued + others
        waited = self.seconds["first"] + self.seconds["later"]
        # More is claimed than was waited for where the server encoded one stage while the next ran.
        hidden = max(0.0, claimed - waited)
        found["serialise"] = max(0.0, found["serialise"] + others - hidden)
        self._finish_packing(others, hidden)
        wire = max(0.0, waited - claimed)
        # Nobody measures the two ways apart: what passed before the first event is taken for the
        # way up.
        upward = min(wire, self.seconds["first"])
        found["upload"] += upward
        found["download"] = wire - upward
        return found

    def _finish_packing(self, server_s: float, hidden_s: float) -> None:
        """Take what was hidden off the parts of `serialise`, the server's first."""
        self.packing[SERVER_PACK] = server_s
        for part in (SERVER_PACK, UNPACK, PACK):
            taken = min(self.packing[part], hidden_s)
            self.packing[part] -= taken
            hidden_s -= taken
