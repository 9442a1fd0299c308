"""Which component of a bundle a request begins with, and whether it can begin there.

A request names its first component. One that does not (older clients cannot) begins with the only
component that starts from what it gives. Knows the manifest; decodes nothing.
"""

from typing import Literal

from cascade.boundary import Image, in_words, value_of
from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest
from cascade.family import ComponentSpec

StartKind = Literal["prompt", "label", "context", "image", "tensor", "noise"]
SHOWN = 64
"""Characters of a caller's own text that an error quotes."""
Size = tuple[int, int]
"""Width and height of a picture, in pixels."""


def starts_with(spec: ComponentSpec, start: StartKind, size: Size | None = None) -> bool:
    """Whether a component can begin with what is given.

    Args:
        spec: the component's entry.
        start: what is given; a picture or a tensor comes with the context or label that the
            component needs.
        size: of the picture.
    """
    kinds = {value.kind for value in spec.starts_from}
    if start == "noise":
        return not kinds
    if start == "tensor":
        return start in kinds and kinds <= {"tensor", "context"}
    if start != "image":
        return kinds == {start}
    image = value_of(Image, spec.starts_from)
    return (
        image is not None
        # A picture comes with a context or label beside it, see the oneof `start` of the wire; with
        # nothing else.
        and kinds <= {"image", "context", "label"}
        and (size is None or size == (image.width, image.height))
    )


def last_enlargement(manifest: Manifest) -> str:
    """Name of the last component that enlarges a picture.

    Raises:
        InvalidRequest: there is none.
    """
    names = [spec.name for spec in manifest.components if starts_with(spec, "image")]
    if not names:
        raise InvalidRequest(
            f"first_stage: no component of {manifest.name} starts from a picture",
            field="first_stage",
        )
    return names[-1]


def first_position(
    manifest: Manifest, start: StartKind, size: Size | None = None, first_stage: str = ""
) -> int:
    """Position of the component that a request begins with.

    Args:
        manifest: of the bundle.
        start: what the request gives.
        size: of the picture that it gives.
        first_stage: the component that it names; empty for none.

    Raises:
        InvalidRequest: no component, or more than one, can begin with that; or not the named one.
    """
    if first_stage:
        return named_position(manifest, start, size, first_stage)
    components = list(enumerate(manifest.components))
    fitting = [at for at, spec in components if starts_with(spec, start, size)]
    if len(fitting) == 1:
        return fitting[0]
    given = start if size is None else f"{size[0]}x{size[1]}"
    field = "image.image" if start == "image" else start
    if fitting:
        names = ", ".join(manifest.components[at].name for at in fitting)
        raise InvalidRequest(
            f"first_stage: {names} start from {given}: name one of them", field="first_stage"
        )
    images = [value_of(Image, spec.starts_from) for _, spec in components]
    sizes = ", ".join(f"{image.width}x{image.height}" for image in images if image is not None)
    expected = sizes if start == "image" and sizes else in_words(components[0][1].starts_from)
    raise InvalidRequest(f"{field}: {given} fits no component; expected {expected}", field=field)


def named_position(
    manifest: Manifest, start: StartKind, size: Size | None, first_stage: str
) -> int:
    """Position of the component that a request names to begin with; see `first_position`."""
    names = [component.name for component in manifest.components]
    if first_stage not in names:
        raise InvalidRequest(
            f"first_stage: no component {first_stage[:SHOWN]!r}; there are {', '.join(names)}",
            field="first_stage",
        )
    position = names.index(first_stage)
    spec = manifest.components[position]
    if not starts_with(spec, start, size):
        given = start if size is None else f"{start} of {size[0]}x{size[1]}"
        raise InvalidRequest(
            f"first_stage: {first_stage} starts from {in_words(spec.starts_from)}, the request "
            f"gives {given}",
            field="first_stage",
        )
    return position
