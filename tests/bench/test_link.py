"""The shaped link: its arithmetic in virtual time, and its lower bounds on true sockets."""

import asyncio
import random
import socket
import time

import pytest

from bench.link.child import LinkChild
from bench.link.direction import SEGMENT_BYTES, LinkDirection
from bench.link.proxy import LinkProxy
from bench.link.shape import LinkShape, parse_stalls
from cascade.errors import InvalidRequest
from cascade.quantities import parse_duration, parse_rate

MBIT = 1e6


def test_bytes_take_their_size_over_the_rate_and_half_a_round_trip() -> None:
    """1 MB at 10 Mbit/s is 0.8 s of line, whatever the pieces; then the delay once."""
    whole = LinkDirection(bit_s=10 * MBIT, delay_s=0.04)
    pieces = LinkDirection(bit_s=10 * MBIT, delay_s=0.04)
    assert whole.leaves_at(1.0, 10**6) == pytest.approx(1.84)
    times = [pieces.leaves_at(1.0, 10**4) for _ in range(100)]
    assert times[-1] == pytest.approx(1.84)
    assert times[0] == pytest.approx(1.0 + 0.008 + 0.04)


def test_an_idle_line_begins_anew() -> None:
    """Time without bytes is not saved up."""
    line = LinkDirection(bit_s=8.0, delay_s=0.0)
    assert line.leaves_at(0.0, 1) == 1.0
    assert line.leaves_at(5.0, 1) == 6.0
    assert line.leaves_at(5.5, 1) == 7.0


def test_an_unlimited_line_only_delays() -> None:
    """Any size at once."""
    assert LinkDirection(bit_s=0.0, delay_s=0.1).leaves_at(2.0, 10**9) == pytest.approx(2.1)


def test_a_lost_segment_holds_up_all_behind_it() -> None:
    """Each costs a round trip; order is kept; as many as the seeded chance says."""
    line = LinkDirection(bit_s=0.0, delay_s=0.05, rtt_s=0.1, loss=0.5, chance=random.Random(3))
    draws = random.Random(3)
    lost = sum(draws.random() < 0.5 for _ in range(4))
    assert lost > 0
    first = line.leaves_at(0.0, 4 * SEGMENT_BYTES)
    assert (first, line.losses) == (pytest.approx(0.05 + 0.1 * lost), lost)
    line.loss = 0.0
    assert line.leaves_at(0.0, 1) == first


def test_a_stall_holds_what_comes_due_in_it() -> None:
    """Every 10 s for 0.5 s, from 10 s on; nothing else is touched."""
    line = LinkDirection(bit_s=0.0, delay_s=0.0, stall_every_s=10.0, stall_s=0.5)
    assert [line.leaves_at(at, 1) for at in (0.2, 9.9, 10.0, 10.4, 10.6, 20.1)] == [
        0.2, 9.9, 10.5, 10.5, 10.6, 20.5,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"), [("80ms", 0.08), ("0.5s", 0.5), ("0", 0.0), ("1.5ms", 0.0015)]
)
def test_durations(text: str, seconds: float) -> None:
    """With their unit."""
    assert parse_duration(text, "rtt") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10Mbit/s", 1e7), ("1 Mbit", 1e6), ("56kbit/s", 56e3), ("2Gbit/s", 2e9), ("unshaped", 0)],
)
def test_rates(text: str, rate: float) -> None:
    """In bits; a name for none."""
    assert parse_rate(text, "down") == pytest.approx(rate)


def test_stalls_are_a_length_and_a_period() -> None:
    """Or none."""
    assert parse_stalls("500ms/10s") == (0.5, 10.0)
    assert parse_stalls("0") == (0.0, 0.0)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: parse_duration("80", "rtt"), "rtt"),
        (lambda: parse_rate("10MB/s", "down"), "down"),
        (lambda: parse_rate("0Mbit/s", "up"), "up"),
        (lambda: parse_stalls("1s"), "stalls"),
        (lambda: LinkShape(rtt_s=-1), "rtt"),
        (lambda: LinkShape(loss=0.6), "loss"),
        (lambda: LinkShape(stall_s=2, stall_every_s=1), "stall"),
    ],
)
def test_wrong_links_name_their_field(make: object, field: str) -> None:
    """Before anything listens."""
    with pytest.raises(InvalidRequest) as caught:
        make()  # type: ignore[operator]
    assert caught.value.field == field


def test_a_link_has_a_name() -> None:
    """That a table can show."""
    assert LinkShape().name == "unshaped"
    shape = LinkShape(rtt_s=0.08, down_bit_s=1e7, up_bit_s=1e6, loss=0.01)
    assert shape.name == "RTT 80 ms, 10 Mbit/s down, 1 Mbit/s up loss 0.01"
    assert LinkShape(rtt_s=0.005).name == "RTT 5 ms, unshaped"


def test_a_link_may_change_under_a_connection() -> None:
    """In its own process: a round trip of 100 ms, then none; the same connection goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with LinkChild(LinkShape(rtt_s=0.1), target) as link:
            host, _, port = link.address.rpartition(":")
            with socket.create_connection((host, int(port))) as near, listener.accept()[0] as far:
                begun = time.monotonic()
                near.sendall(b"a")
                assert far.recv(1) == b"a"
                assert time.monotonic() - begun >= 0.1
                link.reshape(LinkShape(stall_s=50, stall_every_s=60))
                near.sendall(b"b")
                assert far.recv(1) == b"b"
            assert link.address.startswith("127.0.0.1:")


async def echoed(shape: LinkShape, data: bytes) -> tuple[bytes, float, LinkProxy]:
    """What an echo behind a link returns, and after how long."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1 << 16):
            writer.write(part)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = LinkProxy(shape, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    host, _, port = (await proxy.start()).rpartition(":")
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    writer.write_eof()
    found = await reader.read()
    took = time.monotonic() - begun
    writer.close()
    await writer.wait_closed()
    await proxy.close()
    server.close()
    return found, took, proxy


@pytest.mark.parametrize(
    ("shape", "least_s"),
    [
        # A handshake, and half a round trip each way.
        (LinkShape(rtt_s=0.1), 0.2),
        # 50 kB each way at 4 Mbit/s: the second way overlaps the first but for the last piece.
        (LinkShape(up_bit_s=4 * MBIT, down_bit_s=4 * MBIT), 0.1),
        (LinkShape(up_bit_s=2 * MBIT), 0.2),
    ],
)
def test_a_true_link_is_never_faster_than_its_arithmetic(shape: LinkShape, least_s: float) -> None:
    """Every byte arrives, in order, and not before its time."""
    data = random.Random(1).randbytes(50_000)
    found, took_s, proxy = asyncio.run(echoed(shape, data))
    assert found == data
    assert took_s >= least_s
    assert (proxy.counts.up, proxy.counts.down, proxy.counts.connections) == (50_000, 50_000, 1)
