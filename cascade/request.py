"""What a caller asks for, as values: the request, its per-stage options, and the handoff.

Bounds are checked here once, wherever the request comes from: command line, client or wire. Knows
no bundle; what fits which stage, the stage checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cascade.errors import InvalidRequest
from cascade.types import ContextF16, ImageU8

MAX_SEED = 2**64 - 1
MAX_PROMPT_CHARACTERS = 1000
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_IMAGE_INDEX = 2**32 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOptions:
    """Choices for one stage; None takes the bundle's default."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """One picture, asked for the same way at every cut."""

    prompt: str | None = None
    """None where the work starts after the text encoder."""
    seed: int = 0
    image_index: int = 0
    """Pictures of one seed: 0, 1, 2, ..."""
    last_stage: str | None = None
    """Name of the stage to stop after; None runs them all."""
    preview_every: int = 0
    """A preview after so many steps; 0 for none."""
    options: Mapping[str, StageOptions] = field(default_factory=dict)
    """By component name."""

    def __post_init__(self) -> None:
        """Check every bound that needs no bundle."""
        if self.prompt is not None:
            check_prompt(self.prompt)
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequest(f"seed: expected 0 to 2^64 - 1, got {self.seed}", field="seed")
        if not 0 <= self.image_index <= MAX_IMAGE_INDEX:
            raise InvalidRequest(
                f"image_index: expected 0 to 2^32 - 1, got {self.image_index}", field="image_index"
            )
        if not 0 <= self.preview_every <= MAX_STEPS:
            raise InvalidRequest(
                f"preview_every: expected 0 to {MAX_STEPS}, got {self.preview_every}",
                field="preview_every",
            )
        for name, options in self.options.items():
            options.check(f"options.{name}")

    def options_for(self, name: str) -> StageOptions:
        """The choices for one component."""
        return self.options.get(name, StageOptions())


@dataclass(frozen=True, kw_only=True, slots=True)
class Handoff:
    """What crosses a component boundary: exactly the values that could cross the wire there."""

    prompt: str | None = None
    context: ContextF16 | None = None
    """Text embeddings, padding trimmed, half precision."""
    image: ImageU8 | None = None


def check_prompt(prompt: str) -> None:
    """Raise `InvalidRequest` unless the prompt is printable text of an accepted length."""
    if not prompt.strip():
        raise InvalidRequest("prompt: it is empty; say what the picture shows", field="prompt")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"prompt: {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS} are accepted",
            field="prompt",
        )
    if any(ord(c) < 32 and c not in "\t\n\r" for c in prompt):
        raise InvalidRequest("prompt: it holds control characters (such as NUL)", field="prompt")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in prompt):
        # What Python makes of command line bytes that are not UTF-8.
        raise InvalidRequest("prompt: it is not valid Unicode text", field="prompt")
