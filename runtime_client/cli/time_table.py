"""Where the time went, as a table for people.

Knows seconds by name and the order of the work; measures nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime_client.result import HopAccount

ENCODE_PNG = "write picture"
REST = "everything else"
TOTAL = "total"
OPTIONAL = ("load", "connect", "serialise", "upload", "queue", "download")
"""Shown only where they took time: opening stages here, and a server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkRows:
    """The rows of the components' own work, by where they stand in the table."""

    words: Sequence[str]
    """Of components that make no picture, such as a text encoder; they stand first."""
    here: Sequence[str]
    """Of those that made pictures here."""
    there: Sequence[str]
    """And on a server."""


def rows(seconds: Mapping[str, float], work: WorkRows) -> dict[str, float]:
    """Seconds by row, in the order of the work; all but the last row add up to the last.

    Args:
        seconds: by hop, with `total`.
        work: the components' rows.
    """
    names = ["load", *work.words, *work.here, "connect", "serialise", "upload", "queue"]
    names += [*work.there, "download", ENCODE_PNG]
    table = {
        name: seconds.get(name, 0.0)
        for name in names
        if name not in OPTIONAL or seconds.get(name, 0.0) > 0
    }
    total = seconds.get(TOTAL, 0.0)
    # The parts were timed by two processes: their sum may exceed the whole by a little.
    table[REST] = max(0.0, total - sum(table.values()))
    table[TOTAL] = total
    return table


def render(
    table: Mapping[str, float], bytes_up: int, bytes_down: int, computed: Mapping[str, str]
) -> str:
    """The table as lines: milliseconds, share of the total, engine; then the bytes each way.

    Args:
        table: seconds by row.
        bytes_up: to the server.
        bytes_down: from it.
        computed: by row, what computed it.
    """
    total = table.get(TOTAL, 0.0) or 1.0
    width = max(len(name) for name in table)
    lines = [f"{'hop':<{width}}  {'ms':>10}  {'share':>6}"]
    for name, spent in table.items():
        line = f"{name:<{width}}  {1000 * spent:>10.1f}  {spent / total:>6.1%}"
        lines.append(f"{line}  {computed.get(name, '')}".rstrip())
    if bytes_up or bytes_down:
        lines.append(f"{'bytes up':<{width}}  {bytes_up:>10,}")
        lines.append(f"{'bytes down':<{width}}  {bytes_down:>10,}")
    return "\n".join(lines)


def render_hops(hops: Sequence[HopAccount]) -> str:
    """One line for each hop: its components, where they ran, milliseconds, bytes each way."""
    places = [f"{hop.side} {hop.server}".strip() for hop in hops]
    names = [", ".join(hop.components) for hop in hops]
    wide, wider = max(map(len, ["hop", *names])), max(map(len, ["where", *places]))
    title = f"{'hop':<{wide}}  {'where':<{wider}}  {'ms':>10}"
    lines = [f"{title}  {'bytes up':>10}  {'bytes down':>10}"]
    for name, place, hop in zip(names, places, hops, strict=True):
        line = f"{name:<{wide}}  {place:<{wider}}  {1000 * sum(hop.seconds.values()):>10.1f}"
        if hop.bytes_up or hop.bytes_down:
            line += f"  {hop.bytes_up:>10,}  {hop.bytes_down:>10,}"
        lines.append(line)
    return "\n".join(lines)


def host_words(engines: Mapping[str, float], seconds: Mapping[str, float], name: str) -> str:
    """`, host 12.3`: milliseconds of a stage that no engine of it ran; empty where unknown.

    Args:
        engines: seconds of the engines by stage.
        seconds: by hop.
        name: of the stage.
    """
    if name not in engines:
        return ""
    return f", host {1000 * max(0.0, seconds.get(name, 0.0) - engines[name]):.1f}"
