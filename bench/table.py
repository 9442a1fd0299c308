"""A record as a table for people. Knows the record's fields; measures nothing."""

from collections.abc import Mapping
from typing import Any

from bench.quantiles import PERCENTILES

LATENCIES = {
    "time_to_first_picture_s": "first picture",
    "time_to_second_picture_s": "second picture",
    "time_to_last_picture_s": "last picture",
    "latency_s": "latency",
}


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds; a dash where there are none."""
    return "-" if seconds is None else f"{1000 * seconds:.1f}"


def as_text(record: Mapping[str, Any]) -> str:
    """The measured window, its hops, and the audits."""
    measured = record["phases"].get("measured")
    if measured is None:
        return "nothing was measured"
    lines = [*percentile_lines(measured), "", *hop_lines(measured["hops"]), ""]
    lines += fact_lines(record, measured)
    lines += against_lines(record.get("against"))
    return "\n".join(lines)


def percentile_lines(measured: Mapping[str, Any]) -> list[str]:
    """Percentiles of each latency, and the bound of each in brackets."""
    titles = "".join(f"{f'p{p}':>20}" for p in PERCENTILES)
    lines = [f"{'ms (99 % bound)':16}{titles}"]
    for name, words in LATENCIES.items():
        if name not in measured:
            continue
        cells = [measured[name][f"p{p}"] for p in PERCENTILES]
        shown = [f"{milliseconds(c['value'])} ({milliseconds(c['upper'])})" for c in cells]
        lines.append(f"{words:16}" + "".join(f"{cell:>20}" for cell in shown))
    return lines


def hop_lines(hops: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Mean milliseconds of every hop and its share; they add up, the residual included."""
    total = sum(hop["mean_s"] for hop in hops.values()) or 1.0
    lines = [f"{'hop':16}{'mean ms':>10}{'share':>8}"]
    for name, hop in hops.items():
        mean = hop["mean_s"]
        lines.append(f"{name:16}{1000 * mean:>10.1f}{mean / total:>8.1%}")
    return lines


def against_lines(against: Mapping[str, Any] | None) -> list[str]:
    """How many times as long another system took for the same requests."""
    if against is None:
        return []
    name = against["system"].get("against", "another system")
    lines = [
        f"against          {name}: {r['measure']} {r['ratio']:.3f} times "
        f"({r['low']:.3f} .. {r['high']:.3f}, {r['pairs']} pairs)"
        for r in against["ratios"]
    ]
    hops = against["measured"]["hops"]
    lines += [f"  {name:14} {1000 * hop['mean_s']:.1f} ms mean" for name, hop in hops.items()]
    return [*lines, f"against          {name}: times compared, pictures not"]


def fact_lines(record: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """Counts, goodput, bytes, use of both sides, and the verdicts."""
    goodput, pictures = measured["goodput"], measured["pictures"]
    rate, seconds = measured["throughput_per_s"] or 0, measured["seconds"]
    lines = [
        f"finished         {measured['finished']} of {measured['sent']} in {seconds:.1f} s, "
        f"{rate:.2f} per second",
    ]
    if goodput is not None:
        lines.append(
            f"goodput          {goodput['goodput_per_s'] or 0:.2f} per second within "
            f"{milliseconds(goodput['objective_s'])} ms ({goodput['attainment'] or 0:.0%})"
        )
    lag = measured["send_lag"]
    verdict = "DEGRADED: the generator was late" if lag["degraded"] else "not degraded"
    lines.append(f"send lag         p99 {milliseconds(lag['p99_s'])} ms, {verdict}")
    traffic = measured["traffic"]
    up, down = traffic["bytes_up"]["median"] or 0, traffic["bytes_down"]["median"] or 0
    lines.append(f"bytes            {up:,.0f} up, {down:,.0f} down, medians")
    for side, use in measured["usage"].items():
        cpu = "-" if use["cpu_s"] is None else f"{use['cpu_s'] / max(1, measured['finished']):.3f}"
        peak = "-" if use["peak_mib"] is None else f"{use['peak_mib']:.0f}"
        lines.append(f"{side:16} {cpu} processor seconds per picture, peak {peak} MiB")
    lines.append(
        f"pictures         {pictures['equal']} equal to the local run's, "
        f"{pictures['different']} different, {pictures['unchecked']} unchecked"
    )
    audit = record["phases"].get("repeats", {}).get("audit")
    if audit is not None and audit["ratio"] is not None:
        says = ", ".join(audit["caching"]) or "none"
        verdict = "passed" if audit["passed"] else "FAILED: answered from a cache that is not said"
        lines.append(
            f"repeats          {audit['ratio']:.3f} of a new one; caches: {says}; {verdict}"
        )
    return lines
