"""What a caller may choose for one diffusion stage, as it is asked for: nothing filled in yet.

Imports neither numpy nor the sampler, so that a command line can be made of its fields. The
defaults and what fits which stage are known to `cascade.diffusion.options`.
"""

from dataclasses import dataclass

from cascade.errors import InvalidRequest

MAX_STEPS = 1000
MAX_GUIDANCE = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionOptions:
    """Choices for one diffusion stage; None takes the bundle's default."""

    steps: int | None = None
    """1 to 1000."""
    guidance: float | None = None
    """Weight `w` of `uncond + w (cond - uncond)`, 0 to 100; 1 is no guidance and half the work."""
    augmentation: float | None = None
    """Super-resolution only: noise level added to the input image, in the bundle's range."""

    def check(self, path: str) -> None:
        """Raise `InvalidRequest` naming the field under `path` that is out of bounds."""
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise InvalidRequest(
                f"{path}.steps: expected 1 to {MAX_STEPS}, got {self.steps}", field=f"{path}.steps"
            )
        if self.guidance is not None and not 0 <= self.guidance <= MAX_GUIDANCE:
            raise InvalidRequest(
                f"{path}.guidance: expected 0 to {MAX_GUIDANCE:g}, got {self.guidance}",
                field=f"{path}.guidance",
            )
        if self.augmentation is not None and not 0 <= self.augmentation <= 1:
            raise InvalidRequest(
                f"{path}.augmentation: expected 0 to 1, got {self.augmentation}",
                field=f"{path}.augmentation",
            )
