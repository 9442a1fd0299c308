"""What a caller may choose for one stage of pixels by groups, as it is asked for.

Imports neither numpy nor what draws, so that a command line can be made of its fields. Whole
numbers of sixteenths: every machine must come to the same decisions.
"""

from dataclasses import dataclass

from cascade.errors import InvalidRequest

LIMITS = {"temperature_16": (1, 64), "floor_16": (0, 16), "guidance_16": (0, 160)}
"""The least and the most of each choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelOptions:
    """Choices for one stage; None takes the bundle's default."""

    temperature_16: int | None = None
    """Sixteenths, 1 to 64; 16 draws by the network's own weights, less prefers the likely."""
    floor_16: int | None = None
    """Sixteenths of the largest weight, 0 to 16: what weighs less is ruled out; 0 keeps all."""
    guidance_16: int | None = None
    """Sixteenths, 0 to 160: weight of `uncond + w (cond - uncond)` on logits; 16 is no guidance and
    half the work."""
    augmentation: float | None = None
    """How much the network is told to distrust the smaller picture, in the bundle's range."""

    def check(self, path: str) -> None:
        """Raise `InvalidRequest` naming the field under `path` that is out of bounds."""
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InvalidRequest(
                    f"{path}.{name}: expected {least} to {most}, got {value}",
                    field=f"{path}.{name}",
                )
        if self.augmentation is not None and not 0 <= self.augmentation <= 1:
            raise InvalidRequest(
                f"{path}.augmentation: expected 0 to 1, got {self.augmentation}",
                field=f"{path}.augmentation",
            )
