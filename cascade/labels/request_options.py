"""What a caller may choose for a label encoder: nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelOptions:
    """A label encoder leaves nothing to choose."""

    def check(self, path: str) -> None:
        """Nothing to check."""
