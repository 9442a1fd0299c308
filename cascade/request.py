"""What a caller asks for, as values: the request and the handoff.

Bounds are checked here once, wherever the request comes from: command line, client or wire. Knows
no bundle; what fits which stage, the stage checks.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, Protocol

from cascade.edit import Edit, StageEdit
from cascade.errors import InvalidRequest
from cascade.types import ContextF16, ImageU8, Latent, Vector
from cascade.vector_values import checked_vectors

MAX_SEED = 2**64 - 1
MAX_PROMPT_CHARACTERS = 1000
MAX_PREVIEWS = 1000
MAX_LABEL = 2**31 - 1
MAX_IMAGE_INDEX = 2**32 - 1
MAX_SIDE = 32768
"""Of a picture, in pixels."""
STARTS = ("prompt", "label", "picture", "kept")
"""Fields of which a request begins with one."""
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
SURROGATES = re.compile(r"[\ud800-\udfff]")
"""What Python makes of command line bytes that are not UTF-8."""


class FamilyOptions(Protocol):
    """A caller's choices for one component: a dataclass per family; None takes the default."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def check(self, path: str) -> None:
        """Raise `InvalidRequest` naming the field under `path` that is out of bounds."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Handoff:
    """What crosses a component boundary: exactly the values that could cross the wire there."""

    prompt: str | None = None
    label: int | None = None
    """A class by its number, from 0."""
    context: ContextF16 | None = None
    """Text embeddings `[tokens, width]`, padding trimmed, half precision."""
    image: ImageU8 | None = None
    """A picture `[height, width, 3]`, 0 to 255."""
    tensor: Latent | None = None
    """A latent `[channels, height, width]`, float32 or float16 as the manifest says."""
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    """What conditions the picture beside all that, `[width]` float32 each, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptPicture:
    """A component's picture of a finished request, which the server keeps for a while."""

    request_id: str
    """Of the finished request, as its result has it."""
    stage: str
    """The component that made the picture."""
    size: tuple[int, int] | None = None
    """Its width and height; None for what the bundle declares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """One picture, asked for the same way at every cut.

    Begins with a prompt, a label or a picture, whichever the first component starts from; with
    none of them where it starts from noise alone.
    """

    prompt: str | None = None
    """None where the work starts after the text encoder, or without words."""
    label: int | None = None
    """A class by its number, from 0."""
    picture: ImageU8 | None = None
    """A picture `[height, width, 3]`, 0 to 255."""
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    """What conditions the picture beside its words, by name: `[width]` float32, or any sequence of
    numbers, of which such arrays are made."""
    own_picture: bool = False
    """Whether it is the caller's own: of any size, and with a prompt beside it or no words."""
    kept: KeptPicture | None = None
    """A picture that a server kept, in the place of one from here."""
    edit: Edit | None = None
    """A picture of the caller's own that the result is made of."""
    size: tuple[int, int] | None = None
    """Width and height of the last stage's picture; None for what the bundle declares."""
    negative: str | None = None
    """A prompt to be guided away from, by stages whose guidance weight is not 1."""
    negative_context: ContextF16 | None = field(default=None, compare=False, repr=False)
    """Its text embeddings `[tokens, width]`, once they were made."""
    seed: int = 0
    image_index: int = 0
    """Pictures of one seed: 0, 1, 2, ..."""
    first_stage: str | None = None
    """Name of the component to begin with; None for the bundle's first."""
    last_stage: str | None = None
    """Name of the stage to stop after; None runs them all."""
    previews: int = 0
    """Previews of each stage, evenly spaced, at most; 0 for none."""
    preview_every: int = 0
    """A preview after so many steps, as older clients ask; counts where `previews` is 0."""
    options: Mapping[str, FamilyOptions] = field(default_factory=dict)
    """By component name."""
    plans: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """By component name, what the options come to with every default filled in, once
    `cascade.families.resolved` was asked; a stage resolves its own where it finds none."""

    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)
    """By component name, width and height of what it makes, where that is not as declared."""

    edits: Mapping[str, StageEdit] = field(default_factory=dict, compare=False, repr=False)
    """By component name, the edit at the size of what it makes."""

    def __post_init__(self) -> None:
        """Check every bound that needs no bundle."""
        if self.prompt is not None:
            check_prompt(self.prompt)
        if self.negative is not None:
            check_prompt(self.negative, "negative")
        given = [n for n in STARTS if getattr(self, n) is not None]
        if len(given) > 1 and given not in (["prompt", "kept"], *self._own_starts):
            raise InvalidRequest(
                f"{given[1]}: {given[0]} is given too; a request begins with one of them",
                field=given[1],
            )
        if self.vectors:
            object.__setattr__(self, "vectors", checked_vectors(self.vectors))
        self._check_shape(bool({"picture", "kept"} & set(given)))
        check_range("label", self.label or 0, MAX_LABEL, str(MAX_LABEL))
        check_range("seed", self.seed, MAX_SEED, "2^64 - 1")
        check_range("image_index", self.image_index, MAX_IMAGE_INDEX, "2^32 - 1")
        check_range("previews", self.previews, MAX_PREVIEWS, str(MAX_PREVIEWS))
        check_range("preview_every", self.preview_every, MAX_PREVIEWS, str(MAX_PREVIEWS))
        for name, options in self.options.items():
            options.check(f"options.{name}")

    def with_plans(
        self, plans: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]] | None = None
    ) -> "GenerateRequest":
        """The same request with its options resolved; nothing that was checked is checked again."""
        planned = copy.copy(self)
        object.__setattr__(planned, "plans", plans)
        object.__setattr__(planned, "sizes", sizes or {})
        return planned

    def with_edits(self, edits: Mapping[str, StageEdit]) -> "GenerateRequest":
        """The same request with its edit at the size of each stage that sees it."""
        known = copy.copy(self)
        object.__setattr__(known, "edits", edits)
        return known

    def with_negative(self, context: ContextF16 | None) -> "GenerateRequest":
        """The same request with the embeddings [tokens, width] of what it is guided away from."""
        known = copy.copy(self)
        object.__setattr__(known, "negative_context", context)
        return known

    @property
    def _own_starts(self) -> list[list[str]]:
        """What may be given together because the picture is the caller's own."""
        return [["prompt", "picture"]] if self.own_picture else []

    def _check_shape(self, has_picture: bool) -> None:  # noqa: FBT001  private
        """Refuse an edit or a size of what begins with a picture, and no size at all."""
        for name in ("edit", "size"):
            if has_picture and getattr(self, name) is not None:
                raise InvalidRequest(
                    f"{name}: it is for pictures from noise, and this request begins with one: "
                    f"leave it out",
                    field=name,
                )
        if self.size is not None and not all(1 <= side <= MAX_SIDE for side in self.size):
            wide, tall = self.size
            raise InvalidRequest(
                f"size: expected 1 to {MAX_SIDE} either way, got {wide}x{tall}", field="size"
            )

    @property
    def has_own_sizes(self) -> bool:
        """Whether pictures are of other sizes than declared, or may be."""
        return self.own_picture or self.kept is not None or bool(self.sizes)

    @property
    def start(self) -> Handoff:
        """What the first component starts from."""
        return Handoff(
            prompt=self.prompt, label=self.label, image=self.picture, vectors=self.vectors
        )

    def wants_preview(self, done: int, total: int) -> bool:
        """Whether a stage shows its estimate after `done` of `total` units; never after the last.

        At most `previews` times, evenly: after every `total / (previews + 1)` units, rounded up.
        """
        every = -(-total // (self.previews + 1)) if self.previews else self.preview_every
        return bool(every) and done < total and done % every == 0


def check_range(name: str, value: int, highest: int, words: str) -> None:
    """Raise `InvalidRequest` unless a field's value is 0 to `highest`, which `words` spell."""
    if not 0 <= value <= highest:
        raise InvalidRequest(f"{name}: expected 0 to {words}, got {value}", field=name)


def check_prompt(prompt: str, field: str = "prompt") -> None:
    """Raise `InvalidRequest` unless the prompt is printable text of an accepted length."""
    if not prompt.strip():
        raise InvalidRequest(f"{field}: it is empty; say what the picture shows", field=field)
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"{field}: {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS} are accepted",
            field=field,
        )
    if CONTROL_CHARACTERS.search(prompt):
        raise InvalidRequest(f"{field}: it holds control characters (such as NUL)", field=field)
    if SURROGATES.search(prompt):
        raise InvalidRequest(f"{field}: it is not valid Unicode text", field=field)
