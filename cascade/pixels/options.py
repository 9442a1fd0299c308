"""One run of a stage of pixels by groups, decided and checked before any work.

Fills the manifest's defaults into the gaps of a request. Knows the record and a request; runs
nothing.
"""

from dataclasses import dataclass

from cascade.boundary import Context, Image, value_of
from cascade.errors import InvalidRequest
from cascade.pixels.mixture import Sharpness
from cascade.pixels.request_options import PixelOptions
from cascade.pixels.spec import PASS, PixelSpec
from cascade.pixels.weights import UNIT_SIXTEENTHS
from cascade.request import FamilyOptions, Handoff
from cascade.start_inputs import context_inputs, low_image
from cascade.types import Array


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelPlan:
    """One run of a stage with every default filled in."""

    temperature_16: int
    floor_16: int
    guidance_16: int
    augmentation: float

    @property
    def sharpness(self) -> Sharpness:
        """How decisions are made of weights."""
        return Sharpness(self.temperature_16, self.floor_16)

    @property
    def is_guided(self) -> bool:
        """Whether the networks are asked with and without the text."""
        return self.guidance_16 != UNIT_SIXTEENTHS


def check_own_picture(spec: PixelSpec, low: tuple[int, int]) -> None:
    """Refuse a caller's own picture of another size.

    Raises:
        InvalidRequest: the stage starts from none, or from one of another size.
    """
    declared = value_of(Image, spec.starts_from)
    if declared is None:
        raise InvalidRequest(f"image: {spec.name} starts from none", field="image")
    if low != (declared.width, declared.height):
        raise InvalidRequest(
            f"image: {spec.name} makes pixels in the order of one size and takes "
            f"{declared.width}x{declared.height} alone, got {low[0]}x{low[1]}",
            field="image",
        )


def resolve_options(spec: PixelSpec, options: FamilyOptions | None) -> PixelPlan:
    """The options with the manifest's defaults in the gaps; all of them when None.

    Raises:
        InvalidRequest: an option does not fit this component, or is of another family.
    """
    if options is None:
        options = PixelOptions()
    if not isinstance(options, PixelOptions):
        field = f"options.{spec.name}"
        raise InvalidRequest(
            f"{field}: {spec.name} makes pixels by groups, in as many passes as its order has, and "
            f"takes PixelOptions, got {type(options).__name__}",
            field=field,
        )
    guidance = chosen(options.guidance_16, spec.guidance_16)
    takes = {tensor.name for tensor in spec.graphs[PASS].inputs}
    if guidance != UNIT_SIXTEENTHS and "context_mask" not in takes:
        field = f"options.{spec.name}.guidance_16"
        raise InvalidRequest(
            f"{field}: {spec.name} takes no words to be guided by: expected {UNIT_SIXTEENTHS}, got "
            f"{guidance}",
            field=field,
        )
    return PixelPlan(
        temperature_16=chosen(options.temperature_16, spec.temperature_16),
        floor_16=chosen(options.floor_16, spec.floor_16),
        guidance_16=guidance,
        augmentation=level_of(spec, options.augmentation),
    )


def chosen(asked: int | None, default: int) -> int:
    """What was asked for, or the default."""
    return default if asked is None else asked


def level_of(spec: PixelSpec, asked: float | None) -> float:
    """The augmentation level of a run; 0 of a stage that takes none.

    Raises:
        InvalidRequest: it takes none, or another range.
    """
    field = f"options.{spec.name}.augmentation"
    if spec.augmentation is None:
        if asked is not None:
            raise InvalidRequest(f"{field}: {spec.name} takes none", field=field)
        return 0.0
    if asked is None:
        return spec.augmentation.default
    if not spec.augmentation.lowest <= asked <= spec.augmentation.highest:
        raise InvalidRequest(
            f"{field}: expected {spec.augmentation.lowest:g} to {spec.augmentation.highest:g}, "
            f"got {asked:g}",
            field=field,
        )
    return asked


def start_context(spec: PixelSpec, handoff: Handoff) -> dict[str, Array]:
    """The context as the body's inputs, `[1, tokens, width]` float32 and its mask; none without.

    Raises:
        InvalidRequest: there is none, or it does not fit.
    """
    if value_of(Context, spec.starts_from) is None:
        return {}
    return context_inputs(spec.name, spec.graphs[PASS], handoff)


def start_parent(spec: PixelSpec, handoff: Handoff) -> Array | None:
    """The parent, `[1, height, width, 3]` uint8; None of a first stage.

    Raises:
        InvalidRequest: there is none, or its shape is another.
    """
    low = value_of(Image, spec.starts_from)
    return None if low is None else low_image(spec.name, low.shape, handoff)[None]


def check_start(spec: PixelSpec, handoff: Handoff) -> None:
    """Refuse what a stage cannot start from.

    Raises:
        InvalidRequest: naming the field.
    """
    start_context(spec, handoff)
    start_parent(spec, handoff)
