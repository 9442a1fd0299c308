"""One name, one class: a word that means two things in this source means nothing to a reader."""

from pathlib import Path

from benchmarks.lib.source_counts import homonyms, modules_of

ROOT = Path(__file__).parents[2]


def test_no_two_classes_have_one_name() -> None:
    """In every package of the source and the benchmarks."""
    found = homonyms(modules_of(ROOT))
    assert found == {}, "rename one of each: say in its name what kind it is"
