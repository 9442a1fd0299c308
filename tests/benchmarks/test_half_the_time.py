"""The table of this checkout beside an earlier one."""

from benchmarks.half_the_time import table


def test_the_table_has_medians_and_ratios_of_what_was_measured() -> None:
    """Milliseconds, the ratio before to now, and the aim; parts that were left out have no line."""
    before = {"warm": [0.4, 0.2, 0.3], "bytes": [1_000_000.0]}
    now = {"warm": [0.1, 0.2, 0.15], "bytes": [400_000.0]}
    head, warm, sizes = table({"before": before, "now": now})
    assert head.split() == ["before", "now", "unit", "before/now", "aim"]
    assert warm.split()[-5:] == ["300.00", "150.00", "ms", "2.00", "1.80"]
    assert sizes.split()[-5:] == ["1000.00", "400.00", "kB", "2.50", "2.50"]
