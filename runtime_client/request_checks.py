"""Whether a request fits a bundle, checked before any work.

A wrong option of the last stage must not cost the minutes of the first. Knows the manifest; opens
nothing.
"""

from dataclasses import dataclass, replace

from cascade.boundary import Context, Image, Label, Prompt, value_of
from cascade.bundle.manifest import Manifest
from cascade.bundle.starting_points import (
    SHOWN,
    StartKind,
    first_position,
    last_enlargement,
    starts_with,
)
from cascade.errors import InvalidRequest
from cascade.families import check_negative, resolved, uses_of, with_own_picture
from cascade.family import ComponentSpec
from cascade.picture_plans import with_fitted_edit, with_size
from cascade.request import GenerateRequest, KeptPicture
from cascade.vectors import check_given


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request that fits a bundle, with a plan for each of its components."""

    request: GenerateRequest
    first: int
    """Position of the component that it begins with."""
    last: int
    """Position of the one that it ends with."""
    words: int | None = None
    """Position of the component that first encodes the words beside a picture, if there are any."""

    @property
    def positions(self) -> range:
        """Of the components that it runs."""
        return range(self.first, self.last + 1)


def check_request(manifest: Manifest, request: GenerateRequest) -> CheckedRequest:
    """Where a request begins and ends, and what its options come to.

    Raises:
        InvalidRequest: no prompt, a name that the bundle does not have, or an option that does not
            fit its component.
    """
    names = [component.name for component in manifest.components]
    request = with_kept_size(manifest, request)
    start, size = given_start(request)
    # Nothing given means noise only where the bundle begins with it; elsewhere a prompt was
    # forgotten.
    if start == "noise" and value_of(Prompt, manifest.components[0].starts_from) is not None:
        raise InvalidRequest("prompt: it is missing; say what the picture shows", field="prompt")
    own = size if request.own_picture or request.kept is not None else None
    if own is not None:
        begin = request.first_stage or first_enlargement(manifest, request)
        first = first_position(manifest, start, None, begin)
    else:
        first = first_position(manifest, start, size, request.first_stage or names[0])
    check_label(manifest.components[first], request.label)
    for name in request.options:
        if name not in names:
            raise InvalidRequest(
                f"options: no component {name!r}; this bundle has {', '.join(names)}",
                field="options",
            )
    checked = resolved(manifest.components, request)
    last = last_position(manifest, request.last_stage, first)
    if own is not None:
        checked = with_own_picture(manifest.components, checked, first, own)
    checked = with_size(manifest.components, checked, first)
    checked = with_fitted_edit(manifest.components, checked, first)
    words = words_position(manifest, request, first)
    wordless = own is not None and words is None
    # With the encoder of words beside a picture: what it makes, the request need not bring.
    encoder = () if words is None else (manifest.components[words],)
    running = (*encoder, *manifest.components[first : last + 1])
    check_given(uses_of(running), request.vectors, wordless=wordless)
    if request.negative is not None:
        check_negative(manifest.components[first : last + 1], checked)
        if request.prompt is None:
            raise InvalidRequest("negative: it goes with a prompt; give one", field="negative")
    return CheckedRequest(checked, first, last, words)


def first_enlargement(manifest: Manifest, request: GenerateRequest) -> str:
    """Name of the stage that begins with a caller's own picture, or with a kept one.

    Raises:
        InvalidRequest: there is none.
    """
    if request.kept is None:
        return last_enlargement(manifest)
    after = manifest.components[kept_position(manifest, request.kept) + 1 :]
    names = [spec.name for spec in after if starts_with(spec, "image")]
    if not names:
        raise InvalidRequest(
            f"kept.stage: nothing enlarges what {request.kept.stage} makes: name an earlier stage",
            field="kept.stage",
        )
    return names[0]


def kept_position(manifest: Manifest, kept: KeptPicture) -> int:
    """Position of the component that made a kept picture.

    Raises:
        InvalidRequest: no component of that name makes pictures.
    """
    made = [spec.name for spec in manifest.components if isinstance(spec.makes, Image)]
    if kept.stage not in made:
        raise InvalidRequest(
            f"kept.stage: expected one of {', '.join(made)}, got {kept.stage[:SHOWN]!r}",
            field="kept.stage",
        )
    return manifest.position(kept.stage)


def with_kept_size(manifest: Manifest, request: GenerateRequest) -> GenerateRequest:
    """The request with the size of its kept picture: as the caller says, or as declared.

    Raises:
        InvalidRequest: see `kept_position`.
    """
    kept = request.kept
    if kept is None:
        return request
    made = manifest.components[kept_position(manifest, kept)].makes
    declared = (made.width, made.height) if isinstance(made, Image) else None
    return replace(request, kept=replace(kept, size=kept.size or declared))


def words_position(manifest: Manifest, request: GenerateRequest, first: int) -> int | None:
    """Position of the component that encodes the words beside a picture; None without any.

    Raises:
        InvalidRequest: there are words, and nothing that takes them.
    """
    if (request.picture is None and request.kept is None) or request.prompt is None:
        return None
    before = enumerate(manifest.components[:first])
    found = [at for at, spec in before if value_of(Prompt, spec.starts_from) is not None]
    if not found or value_of(Context, manifest.components[first].starts_from) is None:
        name = manifest.components[first].name
        raise InvalidRequest(f"prompt: {name} takes no words: leave them out", field="prompt")
    return found[0]


def check_label(spec: ComponentSpec, label: int | None) -> None:
    """Raise `InvalidRequest` for a class that the component does not have."""
    known = value_of(Label, spec.starts_from)
    if known is not None and label is not None and label >= known.classes:
        raise InvalidRequest(
            f"label: {spec.name} has {known.classes} classes, expected 0 to {known.classes - 1}, "
            f"got {label}",
            field="label",
        )


def given_start(request: GenerateRequest) -> tuple[StartKind, tuple[int, int] | None]:
    """What a request begins with, and the width and height of its picture."""
    if request.kept is not None:
        return "image", request.kept.size
    if request.picture is not None:
        height, width = request.picture.shape[:2]
        return "image", (width, height)
    if request.label is not None:
        return "label", None
    return ("noise" if request.prompt is None else "prompt"), None


def last_position(manifest: Manifest, last_stage: str | None, first: int) -> int:
    """Position of the component to stop after: one that makes a picture.

    Raises:
        InvalidRequest: there is none of that name from the first one on.
    """
    components = manifest.components
    if last_stage is None:
        return len(components) - 1
    listed = [c.name for c in components[first:] if c.makes.kind == "image"]
    if last_stage not in listed:
        raise InvalidRequest(
            f"last_stage: expected one of {', '.join(listed)}, got {last_stage[:SHOWN]!r}",
            field="last_stage",
        )
    return manifest.position(last_stage)
