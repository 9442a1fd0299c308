"""The families of components that this software knows, as one literal table.

Nothing registers itself: a new family is a line here. The functions below ask the right family
about one component, or about all of a request. A family imports what runs it only when it opens a
stage, so that whoever reads a manifest loads no sampler and no tokenizer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.boundary import Image, Tensor, value_of
from cascade.cost import Cost
from cascade.diffusion.family import DiffusionFamily
from cascade.errors import InvalidRequest, ManifestError
from cascade.family import ComponentSpec, Family, PlanWarning
from cascade.labels.family import LabelFamily
from cascade.latents.family import AutoencoderFamily
from cascade.pixels.family import PixelFamily
from cascade.precision import Precision
from cascade.request import MAX_SIDE, GenerateRequest
from cascade.text.family import TextEncoderFamily
from cascade.vectors import VectorUse

FAMILIES: Mapping[str, Family[Any, Any]] = {
    "text_encoder": TextEncoderFamily(),
    "diffusion": DiffusionFamily(),
    "pixels": PixelFamily(),
    "label": LabelFamily(),
    "encoder": AutoencoderFamily(encodes=True),
    "decoder": AutoencoderFamily(encodes=False),
}
"""By the word that the manifest uses."""


MAX_OWN_SIDE = MAX_SIDE
"""Longest side of a picture that is made of a caller's own, in pixels."""
MAX_OWN_PIXELS = 1 << 26
"""Of such a picture: as many as the largest declared one, 8192x8192, and decoders take."""


def family_of(spec: ComponentSpec) -> Family[Any, Any]:
    """The family of a component.

    Raises:
        ManifestError: this software knows none of that name.
    """
    family = FAMILIES.get(spec.family)
    if family is None:
        raise ManifestError(
            f"{spec.name}.family: expected one of {', '.join(FAMILIES)}, got {spec.family!r}",
            field=f"{spec.name}.family",
        )
    return family


def default_plans(components: Sequence[ComponentSpec]) -> dict[str, Any]:
    """What no options at all come to, by component name."""
    return {spec.name: family_of(spec).resolve(spec, None) for spec in components}


def resolved(
    components: Sequence[ComponentSpec],
    request: GenerateRequest,
    defaults: Mapping[str, Any] | None = None,
) -> GenerateRequest:
    """The request with a plan for each of the components: its options are resolved here, once.

    Args:
        components: all of a cascade.
        request: whose options are resolved.
        defaults: `default_plans` of the components, if known: a server keeps them, for
            spacing the times of every stage was a tenth of its work for a short request.

    Raises:
        InvalidRequest: an option does not fit its component.
    """
    # By name, once: admission, cost and the run read this plan, so that none can differ from
    # another.
    known = defaults if defaults is not None else {}
    plans = {}
    for spec in components:
        options = request.options.get(spec.name)
        if options is None and spec.name in known:
            plans[spec.name] = known[spec.name]
        else:
            plans[spec.name] = family_of(spec).resolve(spec, options)
    return request.with_plans(plans)


def with_own_picture(
    components: Sequence[ComponentSpec], request: GenerateRequest, first: int, low: tuple[int, int]
) -> GenerateRequest:
    """A resolved request whose picture is the caller's own, with plans for its size.

    Args:
        components: all of a cascade.
        request: resolved.
        first: position of the component that starts from the picture.
        low: width and height of the picture.

    Raises:
        InvalidRequest: a component takes none of that size, or makes one that is too large.
    """
    plans, sizes = dict(request.plans), {}
    for position in range(first, last_of(components, request) + 1):
        spec = components[position]
        plans[spec.name] = family_of(spec).with_own_picture(spec, plans[spec.name], low)
        given, made = value_of(Image, spec.starts_from), spec.makes
        shown = given or value_of(Tensor, spec.starts_from)
        if shown is None or not isinstance(made, Image | Tensor):
            continue
        low = low[0] * made.width // shown.width, low[1] * made.height // shown.height
        if isinstance(made, Image):
            check_own_size(spec.name, low)
            sizes[spec.name] = low
    return request.with_plans(plans, sizes)


def uses_of(components: Sequence[ComponentSpec]) -> list[tuple[str, VectorUse]]:
    """The vectors that components read and make, in their order, each with its name."""
    return [(spec.name, family_of(spec).vectors(spec)) for spec in components]


def takes_negative(components: Sequence[ComponentSpec], request: GenerateRequest) -> bool:
    """Whether a negative prompt has an effect on any of the components of a resolved request."""
    return any(
        not family_of(spec).why_no_negative(spec, request.plans[spec.name]) for spec in components
    )


def check_negative(components: Sequence[ComponentSpec], request: GenerateRequest) -> None:
    """Refuse a negative prompt that nothing would obey.

    Args:
        components: those that the request runs.
        request: resolved.

    Raises:
        InvalidRequest: saying of each stage why.
    """
    if takes_negative(components, request):
        return
    stages = [spec for spec in components if isinstance(spec.makes, Image)]
    reasons = "; ".join(
        f"{spec.name} {family_of(spec).why_no_negative(spec, request.plans[spec.name])}"
        for spec in stages
    )
    raise InvalidRequest(
        f"negative: no stage can be guided away from it: {reasons}", field="negative"
    )


def last_of(components: Sequence[ComponentSpec], request: GenerateRequest) -> int:
    """Position of the last component that a request runs; the last of all where it is unknown."""
    names = [spec.name for spec in components]
    known = request.last_stage in names
    return names.index(str(request.last_stage)) if known else len(names) - 1


def check_own_size(name: str, made: tuple[int, int]) -> None:
    """Refuse pictures that nothing could send.

    Raises:
        InvalidRequest: naming the limits.
    """
    if max(made) > MAX_OWN_SIDE or made[0] * made[1] > MAX_OWN_PIXELS:
        raise InvalidRequest(
            f"image: {name} would make {made[0]}x{made[1]} of it, at most {MAX_OWN_SIDE} either "
            f"way and {MAX_OWN_PIXELS >> 20} Mi pixels are made: take a smaller picture, or fewer "
            "stages",
            field="image",
        )


def cost_of(spec: ComponentSpec, request: GenerateRequest | None = None) -> Cost:
    """What a component takes of a request; of one with the manifest's defaults when None."""
    family = family_of(spec)
    plan = None if request is None else request.plans.get(spec.name)
    if plan is None:
        options = None if request is None else request.options.get(spec.name)
        plan = family.resolve(spec, options)
    return family.cost(spec, plan)


def check_precision(spec: ComponentSpec, precision: Precision) -> None:
    """Refuse a precision in which a component's results would be others.

    Raises:
        InvalidRequest: naming the component, and in what it can be computed.
    """
    allowed = family_of(spec).precisions(spec)
    if precision not in allowed:
        listed = ", ".join(allowed)
        raise InvalidRequest(
            f"precision: {spec.name} is exact in {listed} alone and makes another picture in "
            f"{precision}: use auto, or {spec.name}={listed}",
            field="precision",
        )


def warnings_of(
    components: Sequence[ComponentSpec], request: GenerateRequest
) -> tuple[PlanWarning, ...]:
    """What a resolved request asks of components at its own risk, in their order."""
    return tuple(
        warning
        for spec in components
        for warning in family_of(spec).warnings(spec, request.plans[spec.name])
    )
