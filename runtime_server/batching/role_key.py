"""Which engine of a hosted bundle: a component's position, and the role of the graph that it runs.

Everything that is measured or counted per engine is kept under this key: limits, times, failures.
"""

from typing import NamedTuple

from cascade.graph_spec import NET


class RoleKey(NamedTuple):
    """One engine."""

    position: int
    """Of its component, counted from the first of the bundle."""
    role: str = NET
    """Of its graph in the component."""
