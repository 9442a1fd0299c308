"""The speed of a line, and what is asked of a server for it."""

import pytest

from runtime_client.remote.link_speed import SLOW_BYTES_PER_S, LinkSpeed


@pytest.mark.parametrize(
    ("size_bytes", "seconds", "slow"),
    [
        (1_000_000, 8.0, True),  # 1 Mbit/s
        (1_000_000, 1_000_000 / SLOW_BYTES_PER_S, False),
        (1_000_000, 0.08, False),  # 100 Mbit/s
        (1_000_000, 0.0, False),  # hidden behind the work of the server
        (20_000, 5.0, False),  # too little to tell
    ],
)
def test_a_line_is_slow_where_few_bytes_come_in_a_second(
    size_bytes: int, seconds: float, *, slow: bool
) -> None:
    """Megabits by hand; what says nothing of the line changes nothing."""
    speed = LinkSpeed()
    assert not speed.is_slow
    speed.note(size_bytes, seconds)
    assert speed.is_slow is slow


def test_a_device_that_changes_its_network_is_right_after_one_picture() -> None:
    """The last run alone counts."""
    speed = LinkSpeed()
    speed.note(1_000_000, 8.0)
    speed.note(1_000_000, 0.1)
    assert not speed.is_slow
