"""What one request takes of one component, counted before it runs.

Quotas, in-flight limits, forecasts and prices are made of these numbers; a family counts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """The work of one component for one picture."""

    runs: Mapping[str, int]
    """Runs of the engine by role; a run has two rows where guidance asks with and without text."""
    units: int
    """What `Progress` counts up to."""
    pixels: int
    """Of all units together, however small a unit's share of a picture; 0 where none is made."""
    result_bytes: int
    """Of the result: raw pixels, or the longest context."""
    working_bytes: int = 0
    """Held meanwhile beside it, where a caller's own picture decides how much; 0 for pictures of
    the declared size, which every machine that opens the bundle has room for."""
