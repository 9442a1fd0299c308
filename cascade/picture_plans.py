"""Plans for pictures of another size than declared, and for pictures that are made of one's own.

Knows the sizes of a request's stages and asks their families; no network.
"""

from collections.abc import Sequence
from dataclasses import replace

from cascade.boundary import Image, value_of
from cascade.edit import Edit, at_sizes, fitted
from cascade.errors import InvalidRequest
from cascade.families import family_of, last_of, with_own_picture
from cascade.family import ComponentSpec
from cascade.request import GenerateRequest


def with_size(
    components: Sequence[ComponentSpec], request: GenerateRequest, first: int
) -> GenerateRequest:
    """A resolved request for a picture of another size, from noise, with plans for it.

    Args:
        components: all of a cascade.
        request: resolved; its size is that of the last component's picture.
        first: position of the component that it begins with.

    Raises:
        InvalidRequest: it begins with a picture, or a component makes none of its size.
    """
    if request.size is None:
        return request
    stages = image_stages(components, request, first)
    if not stages or value_of(Image, stages[0].starts_from) is not None:
        raise InvalidRequest("size: what begins with a picture has its size", field="size")
    made = tuple(side // by for side, by in zip(request.size, factors(stages), strict=True))
    if tuple(side * by for side, by in zip(made, factors(stages), strict=True)) != request.size:
        by = "x".join(map(str, dict.fromkeys(factors(stages))))
        raise InvalidRequest(
            f"size: {stages[-1].name} makes multiples of {by} pixels of what {stages[0].name} "
            f"begins, got {request.size[0]}x{request.size[1]}",
            field="size",
        )
    base = (made[0], made[1])
    declared = stages[0].makes
    if isinstance(declared, Image) and base == (declared.width, declared.height):
        return request
    name, family = stages[0].name, family_of(stages[0])
    plans = {**request.plans, name: family.with_size(stages[0], request.plans[name], base)}
    sized = request.with_plans(plans)
    begin = next(at for at, spec in enumerate(components) if spec.name == name)
    later = with_own_picture(components, sized, begin + 1, base)
    return later.with_plans(later.plans, {name: base, **later.sizes})


def factors(stages: Sequence[ComponentSpec]) -> tuple[int, int]:
    """How much wider and higher the last of some stages makes what the first one begins."""
    wide = tall = 1
    for spec in stages[1:]:
        given, made = value_of(Image, spec.starts_from), spec.makes
        if given is not None and isinstance(made, Image):
            wide, tall = wide * (made.width // given.width), tall * (made.height // given.height)
    return wide, tall


def image_stages(
    components: Sequence[ComponentSpec], request: GenerateRequest, first: int
) -> list[ComponentSpec]:
    """The components of a request that make pictures, in order."""
    run = components[first : last_of(components, request) + 1]
    return [spec for spec in run if isinstance(spec.makes, Image)]


def stage_sizes(stages: Sequence[ComponentSpec], request: GenerateRequest) -> list[tuple[int, int]]:
    """Width and height of what stages make of a request."""
    return [
        request.sizes.get(spec.name, (spec.makes.width, spec.makes.height))
        for spec in stages
        if isinstance(spec.makes, Image)
    ]


def with_fitted_edit(
    components: Sequence[ComponentSpec], request: GenerateRequest, first: int
) -> GenerateRequest:
    """`with_edit` for a picture of any size, which is brought to that of a stage."""
    stages = image_stages(components, request, first)
    if request.edit is None or not stages:
        return request
    edit = fitted(request.edit, stage_sizes(stages, request))
    return with_edit(components, request, first, edit)


def with_edit(
    components: Sequence[ComponentSpec], request: GenerateRequest, first: int, edit: Edit
) -> GenerateRequest:
    """A resolved request that is made of the caller's own picture, with plans for it.

    Args:
        components: all of a cascade.
        request: resolved, its sizes known.
        first: position of the component that it begins with.
        edit: of the size that one of the components makes.

    Raises:
        InvalidRequest: of another size, or no component can make anything of it.
    """
    stages = image_stages(components, request, first)
    begins = bool(stages) and value_of(Image, stages[0].starts_from) is None
    if edit.mask is None and not begins:
        raise InvalidRequest(
            "edit.mask: it is missing; without one, nothing is made of the picture by stages that "
            "begin with another",
            field="edit.mask",
        )
    sizes = stage_sizes(stages, request)
    # Nothing later sees a picture of which nothing is kept.
    allowed = sizes if edit.mask is not None else sizes[:1]
    if edit.size not in allowed:
        listed = " or ".join(f"{wide}x{tall}" for wide, tall in allowed) or "no picture at all"
        raise InvalidRequest(
            f"edit.picture: expected {listed}, got {edit.size[0]}x{edit.size[1]}",
            field="edit.picture",
        )
    count = len(sizes) - sizes[::-1].index(edit.size) if edit.mask is not None else 1
    edits = at_sizes(edit, sizes[:count])
    if begins:
        edits[0] = replace(edits[0], strength=edit.share, resample=edit.resample)
    plans = dict(request.plans)
    for spec, part in zip(stages, edits, strict=False):
        plans[spec.name] = family_of(spec).with_edit(spec, plans[spec.name], part)
    named = {spec.name: part for spec, part in zip(stages, edits, strict=False)}
    return request.with_plans(plans, request.sizes).with_edits(named)
