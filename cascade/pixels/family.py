"""The family of pixels by groups: a picture in a few passes, every value drawn in integers.

Knows the record and what a run takes; what draws is loaded when a stage is opened.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.boundary import Image, value_of
from cascade.cost import Cost
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.errors import InvalidRequest
from cascade.events import Backend
from cascade.family import PlanWarning, ReadFile, StartCheck
from cascade.pixels.dummy_run import PixelDummyRun
from cascade.pixels.order import GIVEN
from cascade.pixels.request_options import PixelOptions
from cascade.pixels.spec import HEADS, PASS, PixelSpec, check_choices
from cascade.precision import Precision
from cascade.request import FamilyOptions
from cascade.stage import EngineStage
from cascade.vectors import NO_VECTORS, VectorUse

if TYPE_CHECKING:
    from cascade.pixels.options import PixelPlan

DRAWN_PERIOD = 8
"""Orders up to this period are shown whole."""


def pixel_specs(components: Sequence[object]) -> tuple[PixelSpec, ...]:
    """The stages of pixels by groups among the components of a bundle, in order."""
    return tuple(component for component in components if isinstance(component, PixelSpec))


class PixelFamily:
    """See `cascade.family.Family`."""

    spec_type = PixelSpec
    options_type = PixelOptions
    unit = "pass"
    is_discrete = True
    dummy_run = PixelDummyRun()

    def check(self, spec: PixelSpec, path: str) -> None:
        """See `cascade.pixels.spec.check_choices`."""
        check_choices(spec, path)

    def resolve(self, spec: PixelSpec, options: FamilyOptions | None) -> "PixelPlan":
        """See `cascade.pixels.options.resolve_options`."""
        from cascade.pixels.options import resolve_options  # noqa: PLC0415  see the module

        return resolve_options(spec, options)

    def vectors(self, spec: PixelSpec) -> VectorUse:
        """None."""
        del spec
        return NO_VECTORS

    def with_own_picture(
        self, spec: PixelSpec, plan: "PixelPlan", low: tuple[int, int]
    ) -> "PixelPlan":
        """The plan as it is: the order of a picture's pixels is that of one size."""
        from cascade.pixels.options import check_own_picture  # noqa: PLC0415

        check_own_picture(spec, low)
        return plan

    def with_size(self, spec: PixelSpec, plan: "PixelPlan", made: tuple[int, int]) -> "PixelPlan":
        """The declared size alone: the order of a picture's pixels is that of one size."""
        if made == (spec.makes.width, spec.makes.height):
            return plan
        raise InvalidRequest(
            f"size: {spec.name} makes pixels in the order of one size, "
            f"{spec.makes.width}x{spec.makes.height}, and cannot make {made[0]}x{made[1]}: leave "
            "the size out",
            field="size",
        )

    def with_edit(self, spec: PixelSpec, plan: "PixelPlan", edit: StageEdit) -> "PixelPlan":
        """Refused: there is no noise to begin from or to put known pixels into."""
        del plan, edit
        raise InvalidRequest(
            f"edit: {spec.name} draws pixels by groups, without noise, and can be made of no "
            "picture: take a bundle whose stages are diffusion stages",
            field="edit",
        )

    def why_no_negative(self, spec: PixelSpec, plan: "PixelPlan") -> str:
        """Its networks know words and no words."""
        del spec, plan
        return "is guided away from no words alone"

    def settings(self, spec: PixelSpec, plan: "PixelPlan") -> Mapping[str, Any]:
        """Temperature, floor and guidance in sixteenths, and the augmentation if there is one."""
        found = {
            "temperature_16": plan.temperature_16,
            "floor_16": plan.floor_16,
            "guidance_16": plan.guidance_16,
        }
        return found if spec.augmentation is None else {**found, "augmentation": plan.augmentation}

    def warnings(self, spec: PixelSpec, plan: "PixelPlan") -> Sequence[PlanWarning]:
        """None."""
        del spec, plan
        return ()

    def cost(self, spec: PixelSpec, plan: "PixelPlan") -> Cost:
        """A run of the body and a picture's pixels per pass, a run of the heads per channel."""
        del plan
        passes = spec.scheme.passes
        return Cost(
            runs={PASS: passes, HEADS: spec.scheme.head_runs},
            units=passes,
            pixels=passes * spec.makes.pixels,
            result_bytes=spec.makes.size_bytes,
        )

    def precisions(self, spec: PixelSpec) -> Collection[Precision]:
        """Float32 alone where the arithmetic is exact: in any other the pictures are others."""
        return (Precision.FP32,) if spec.arithmetic == "exact" else tuple(Precision)

    def start_check(self, spec: PixelSpec, read: ReadFile) -> StartCheck:
        """The context fits the body, and so does the picture where there must be one."""
        from cascade.pixels.options import check_start  # noqa: PLC0415

        del read
        return lambda handoff, _: check_start(spec, handoff)

    def open(
        self,
        spec: PixelSpec,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> EngineStage:
        """The stage on its two engines; see `Family.open`."""
        from cascade.pixels.stage import PixelStage  # noqa: PLC0415

        del read
        return PixelStage(spec, position, engines, computed)

    def time_rows(self, spec: PixelSpec) -> tuple[str, ...]:
        """Itself."""
        return (spec.name,)

    def describe(self, spec: PixelSpec) -> list[str]:
        """Image, passes, how values are decided, and the order drawn."""
        scheme, low = spec.scheme, value_of(Image, spec.starts_from)
        start = "" if low is None else f"{low.width}x{low.height} ({scheme.parent}) -> "
        copies = f"{scheme.candidates} pixels may be copied" if scheme.candidates else "no copies"
        lines = [
            f"image    {start}{spec.makes.width}x{spec.makes.height}, {spec.arithmetic} arithmetic",
            f"passes   {scheme.passes} of planes {list(scheme.planes)}, channels by "
            f"{scheme.channel_passes}, guess {scheme.guess}, {copies}"
            f"{', means kept' if scheme.keep_mean else ''}",
            f"decide   temperature {spec.temperature_16}/16, floor {spec.floor_16}/16, guidance "
            f"{spec.guidance_16}/16",
        ]
        period = scheme.order.period
        if period <= DRAWN_PERIOD:
            marks = ["." if group == GIVEN else str(group) for group in scheme.order.groups]
            rows = (marks[at : at + period] for at in range(0, len(marks), period))
            lines.extend("order    " + " ".join(f"{m:>2}" for m in row) for row in rows)
        if spec.augmentation is not None:
            a = spec.augmentation
            lines.append(f"augment  {a.default:g} by default, {a.lowest:g} to {a.highest:g}")
        return lines
