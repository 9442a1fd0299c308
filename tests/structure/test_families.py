"""What differs between kinds of components is asked of their family, never of a type."""

from pathlib import Path

from benchmarks.lib.source_counts import branches_on_specs, modules_of

ROOT = Path(__file__).parents[2]


def test_no_branch_on_the_type_of_a_component() -> None:
    """Outside the families: no `isinstance` on a spec, and no comparison of a family's name."""
    found = branches_on_specs(modules_of(ROOT))
    assert found == [], "ask the component's Family in cascade/families.py instead"
