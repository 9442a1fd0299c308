"""What a caller may choose for an autoencoder: nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderOptions:
    """Neither half of an autoencoder leaves anything to choose."""

    def check(self, path: str) -> None:
        """Nothing to check."""
