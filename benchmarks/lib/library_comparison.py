"""What a grid compares: one configuration of another project's model, by us and by its library."""

from collections.abc import Callable
from dataclasses import dataclass

from cascade.types import ImageU8

Pictures = dict[str, ImageU8]
"""By stage name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryCase:
    """One configuration."""

    name: str
    refused: str
    """The field that is named where it is refused; empty where it is equal."""
    ours: Callable[[], Pictures]
    theirs: Callable[[Pictures], Pictures]
    """Given ours: a later stage starts from the smaller picture that ours started from, or one
    level of one pixel would be compared enlarged."""
