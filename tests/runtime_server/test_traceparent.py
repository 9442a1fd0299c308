"""The W3C header that says which trace a call belongs to."""

import pytest

from runtime_server.telemetry.traceparent import TraceParent, find_traceparent, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("value", "parent"),
    [
        (GOOD, TraceParent(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", TraceParent(TRACE, SPAN, sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", TraceParent(TRACE, SPAN, sampled=True)),
        (f"01-{TRACE}-{SPAN}-01", TraceParent(TRACE, SPAN, sampled=True)),
        (f"cc-{TRACE}-{SPAN}-00-of-the-future", TraceParent(TRACE, SPAN, sampled=False)),
    ],
)
def test_valid_headers_are_read(value: str, parent: TraceParent) -> None:
    """Of later versions as far as this one goes."""
    assert parse_traceparent(value) == parent


@pytest.mark.parametrize(
    "value",
    [
        "",
        GOOD.upper(),
        GOOD + " ",
        " " + GOOD,
        GOOD + "\n",
        GOOD + "-00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-٠١",
        GOOD.encode(),
    ],
)
def test_everything_else_is_ignored(value: str | bytes) -> None:
    """A wrong header begins a new trace, as the standard asks."""
    assert parse_traceparent(value) is None


def test_a_header_that_is_given_twice_is_none() -> None:
    """Which of the two would be guessing."""
    assert find_traceparent([("other", "x"), ("traceparent", GOOD)]) is not None
    assert find_traceparent([("traceparent", GOOD), ("traceparent", GOOD)]) is None
    assert find_traceparent([]) is None
