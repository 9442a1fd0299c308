"""One name, one class: a word that means two things in this source means nothing to a reader."""

from pathlib import Path

from benchmarks.lib.source_counts import homonyms, modules_of

ROOT = Path(__file__).parents[2]
KNOWN: frozenset[str] = frozenset({"Attention", "Progress", "StraightPath"})
"""Names that two classes have at present: one of each pair gets another, and leaves this list."""


def test_no_two_classes_have_one_name() -> None:
    """In every package of the source and the benchmarks."""
    found = homonyms(modules_of(ROOT))
    new = {name: paths for name, paths in found.items() if name not in KNOWN}
    assert not new, "rename one of each: say in its name what kind it is"
    assert sorted(KNOWN - set(found)) == [], "no two classes have these names: delete from KNOWN"
