"""How many replicas there are: one more while jobs wait, one fewer after a minute of leisure."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cascade.errors import InvalidRequest
from runtime_server.config.config import ServerConfig
from runtime_server.executors.scaling import FEWER_AFTER_S, MORE_AFTER_S, Demand, Scaler

WAITING = Demand(open=1, ready=1, idle=0, longest_wait_s=MORE_AFTER_S)
IDLE = Demand(open=2, ready=2, idle=1, longest_wait_s=0.0)
BUSY = Demand(open=2, ready=2, idle=0, longest_wait_s=0.0)
OPENING = Demand(open=2, ready=1, idle=0, longest_wait_s=9 * MORE_AFTER_S)
LATE = FEWER_AFTER_S


@pytest.mark.parametrize(
    ("seen", "changes"),
    [
        ([(0.0, WAITING)], [1]),
        ([(0.0, Demand(open=1, ready=1, idle=0, longest_wait_s=0.9))], [0]),
        ([(0.0, OPENING)], [0]),
        ([(0.0, Demand(open=3, ready=3, idle=0, longest_wait_s=60.0))], [0]),
        ([(0.0, IDLE), (LATE - 1, IDLE), (LATE, IDLE)], [0, 0, -1]),
        ([(0.0, IDLE), (LATE - 1, BUSY), (LATE, IDLE), (2 * LATE - 1, IDLE)], [0, 0, 0, 0]),
        ([(0.0, IDLE), (LATE, IDLE), (LATE + 1, IDLE), (2 * LATE, IDLE)], [0, -1, 0, -1]),
        (
            [(t, Demand(open=1, ready=1, idle=1, longest_wait_s=0.0)) for t in (0.0, LATE)],
            [0, 0],
        ),
        (
            [(t, Demand(open=2, ready=1, idle=0, longest_wait_s=0.0)) for t in (0.0, LATE)],
            [0, -1],
        ),
    ],
    ids=[
        "a job waits",
        "not for long",
        "one is being opened",
        "at the most",
        "one is idle",
        "busy in between",
        "one at a time",
        "at the least",
        "no room for one that is wanted no more",
    ],
)
def test_a_decision_is_one_more_or_one_fewer(
    seen: Sequence[tuple[float, Demand]], changes: Sequence[int]
) -> None:
    """By what waits and for how long, between one replica and three."""
    scaler = Scaler(1, 3)
    assert [scaler.change(demand, now) for now, demand in seen] == changes


def test_bounds_in_the_wrong_order_are_refused() -> None:
    """The error names both numbers."""
    with pytest.raises(InvalidRequest, match="max_replicas: 2 is less than the 3 at the start"):
        ServerConfig(bundle=Path("b"), executor="ray", replicas=3, max_replicas=2)
