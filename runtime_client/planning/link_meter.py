"""The link to a server, measured between requests with small calls: round trip, rates, load.

No picture waits for it, except for the first on a network of which nothing is known.
"""

import secrets
from collections.abc import Callable
from statistics import median

from cascade.errors import CascadeError
from runtime_client.planning.learned import Learned
from runtime_client.planning.observed import LEAST_WAIT_S
from runtime_client.remote.server_link import ServerLink
from wire.limits import MAX_PADDING_BYTES
from wire.server_info import InfoCall, ServerInfo

STALE_S = 30.0
"""A rate that is older is measured again, where requests do not show it."""
PROBE_S = 0.05
"""How long the bytes of a measurement are to take at the rate that is known."""
LEAST_PROBE_BYTES, FIRST_PROBE_BYTES = 4 << 10, 16 << 10
TIMEOUT_S = 10.0
WAYS = ("up", "down")


class LinkMeter:
    """Measures one link; used from one thread at a time."""

    def __init__(self, link: ServerLink, learned: Learned, clock: Callable[[], float]) -> None:
        """Nothing is sent yet.

        Args:
            link: with a connection.
            learned: gets `rtt`, `up` and `down`.
            clock: Unix time.
        """
        self._link = link
        self._learned = learned
        self._clock = clock

    def measure(self, *, used_link: bool, sparing: bool) -> ServerInfo | None:
        """What the server tells now; rates are measured where they are unknown, old or in doubt.

        Args:
            used_link: whether the request before moved bytes, and showed rates itself.
            sparing: whether bytes are to be spared: no rate is measured again.

        Returns:
            None where the server did not answer.
        """
        try:
            info, seconds = self._link.measured_info(InfoCall(), timeout_s=TIMEOUT_S)
            self._learned.note("rtt", seconds, self._clock())
            doubtful = any(self._learned.in_doubt(name) for name in ("rtt", *WAYS))
            for way in WAYS:
                age_s = self._learned.age_s(way, self._clock())
                is_due = doubtful or age_s > STALE_S or not used_link
                if age_s == float("inf") or (is_due and not sparing):
                    self._measure_rate(way)
        except CascadeError:
            # Whatever it is, the next request meets it and says so.
            return None
        return info

    def _measure_rate(self, way: str) -> None:
        """One rate, twice: a connection at rest carries less at once than one that is used."""
        rtt_s, rates = self._learned.value("rtt") or 0.0, []
        size = FIRST_PROBE_BYTES
        known = self._learned.value(way)
        if known is not None:
            size = probe_bytes(known)
        for _ in range(2):
            seconds = self._filled(way, size)
            if seconds is None:
                return
            rates.append(size / max(seconds - rtt_s, LEAST_WAIT_S))
            size = probe_bytes(rates[-1])
        self._learned.note(way, rates[-1], self._clock())

    def _filled(self, way: str, size: int) -> float | None:
        """Seconds of a call that is filled up one way; None of a server that does not do it."""
        if way == "up":
            call = InfoCall(padding=secrets.token_bytes(size))
        else:
            call = InfoCall(reply_padding_bytes=size)
        info, seconds = self._link.measured_info(call, timeout_s=TIMEOUT_S)
        return seconds if way == "up" or len(info.padding) == size else None


def probe_bytes(rate: float) -> int:
    """How many bytes measure a rate well, and take little time.

    Args:
        rate: bytes per second, as far as it is known.
    """
    # The middle one of the three: neither less than the least nor more than the most.
    return round(median((LEAST_PROBE_BYTES, PROBE_S * rate, MAX_PADDING_BYTES)))
