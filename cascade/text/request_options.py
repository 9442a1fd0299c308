"""What a caller may choose for a text encoder: nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TextOptions:
    """A text encoder leaves nothing to choose."""

    def check(self, path: str) -> None:
        """Nothing to check."""
