"""The families of autoencoders: a picture to a latent and back, one run of one graph for each tile.

Knows the record and what a run takes; the stage is loaded when one is opened.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade.boundary import Image, Tensor, value_of
from cascade.cost import Cost
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.errors import InvalidRequest, ManifestError
from cascade.events import Backend
from cascade.family import PlanWarning, ReadFile, StartCheck
from cascade.graph_spec import NET
from cascade.latents.dummy_run import AutoencoderDummyRun
from cascade.latents.request_options import AutoencoderOptions
from cascade.latents.spec import AutoencoderSpec, check_record, sides_of
from cascade.precision import Precision
from cascade.request import FamilyOptions, Handoff
from cascade.stage import EngineStage
from cascade.start_inputs import latent, low_image
from cascade.vectors import NO_VECTORS, VectorUse


@dataclass(frozen=True, slots=True)
class AutoencoderPlan:
    """One run of an autoencoder's half: there is nothing to decide."""


class AutoencoderFamily:
    """See `cascade.family.Family`; of encoders and of decoders, for one is the other's mirror."""

    spec_type = AutoencoderSpec
    options_type = AutoencoderOptions
    unit = "tile"
    is_discrete = False
    dummy_run = AutoencoderDummyRun()

    def __init__(self, *, encodes: bool) -> None:
        """One of the two.

        Args:
            encodes: whether of encoders; otherwise of decoders.
        """
        self._encodes = encodes

    def check(self, spec: AutoencoderSpec, path: str) -> None:
        """See `cascade.latents.spec.check_record`.

        Raises:
            ManifestError: it also makes something else than its family.
        """
        if spec.encodes != self._encodes:
            raise ManifestError(
                f"{path}.makes: {spec.family} {spec.name} makes a "
                f"{'tensor' if self._encodes else 'picture'}, got {spec.makes}",
                field=f"{path}.makes",
            )
        check_record(spec, path)

    def resolve(self, spec: AutoencoderSpec, options: FamilyOptions | None) -> AutoencoderPlan:
        """The one plan there is.

        Raises:
            InvalidRequest: there are options.
        """
        chosen = {} if options is None else asdict(options)
        if any(value is not None for value in chosen.values()):
            field = f"options.{spec.name}"
            raise InvalidRequest(f"{field}: it is of family {spec.family}, which takes none",
                                 field=field)  # fmt: skip
        return AutoencoderPlan()

    def vectors(self, spec: AutoencoderSpec) -> VectorUse:
        """None."""
        del spec
        return NO_VECTORS

    def with_own_picture(
        self, spec: AutoencoderSpec, plan: AutoencoderPlan, low: tuple[int, int]
    ) -> AutoencoderPlan:
        """The same plan, for a picture of the declared size.

        Raises:
            InvalidRequest: it is of another size, or no picture is taken.
        """
        taken = value_of(Image, spec.starts_from) or value_of(Tensor, spec.starts_from)
        if taken is None or low != (taken.width, taken.height):
            only = f"none but {taken}" if isinstance(taken, Image) else "none"
            raise InvalidRequest(
                f"image: {spec.name} starts from {only}, got {low[0]}x{low[1]}", field="image"
            )
        return plan

    def with_size(
        self, spec: AutoencoderSpec, plan: AutoencoderPlan, made: tuple[int, int]
    ) -> AutoencoderPlan:
        """Refused: its latents have one size."""
        del plan
        raise InvalidRequest(
            f"size: {spec.name} makes {spec.makes} alone, got {made[0]}x{made[1]}", field="size"
        )

    def with_edit(
        self, spec: AutoencoderSpec, plan: AutoencoderPlan, edit: StageEdit
    ) -> AutoencoderPlan:
        """Refused: it takes no step that could be left out."""
        del plan, edit
        raise InvalidRequest(
            f"edit: {spec.name} takes no steps, so nothing can be made of a picture there",
            field="edit",
        )

    def why_no_negative(self, spec: AutoencoderSpec, plan: AutoencoderPlan) -> str:
        """It is not guided."""
        del spec, plan
        return "is not guided"

    def settings(self, spec: AutoencoderSpec, plan: AutoencoderPlan) -> Mapping[str, Any]:
        """Nothing was chosen."""
        del spec, plan
        return {}

    def warnings(self, spec: AutoencoderSpec, plan: AutoencoderPlan) -> Sequence[PlanWarning]:
        """No picture is a risk."""
        del spec, plan
        return ()

    def cost(self, spec: AutoencoderSpec, plan: AutoencoderPlan) -> Cost:
        """A run, and a tile's pixels of the picture, for each tile."""
        del plan
        tall, wide = spec.tiles
        runs = len(tall.starts) * len(wide.starts)
        height, width = sides_of(spec.graph, "picture") or (0, 0)
        return Cost(
            runs={NET: runs},
            units=runs,
            pixels=runs * height * width,
            result_bytes=spec.makes.size_bytes,
        )

    def precisions(self, spec: AutoencoderSpec) -> Collection[Precision]:
        """Any: the exporter has compared results."""
        del spec
        return tuple(Precision)

    def start_check(self, spec: AutoencoderSpec, read: ReadFile) -> StartCheck:
        """The picture or latent is there, of the declared shape."""
        del read

        def check(handoff: Handoff, _: object) -> None:
            if spec.encodes and spec.picture is not None:
                low_image(spec.name, spec.picture.shape, handoff)
            elif spec.latent is not None:
                latent(spec.name, spec.latent, handoff)

        return check

    def open(
        self,
        spec: AutoencoderSpec,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> EngineStage:
        """The stage; see `Family.open`."""
        from cascade.latents.stage import AutoencoderStage  # noqa: PLC0415  see the module

        del position, read
        return AutoencoderStage(spec, engines[NET], computed)

    def time_rows(self, spec: AutoencoderSpec) -> tuple[str, ...]:
        """Itself."""
        return (spec.name,)

    def describe(self, spec: AutoencoderSpec) -> list[str]:
        """What it makes of what, in how many tiles."""
        taken = value_of(Image, spec.starts_from) or value_of(Tensor, spec.starts_from)
        tall, wide = spec.tiles
        count = len(tall.starts) * len(wide.starts)
        return [
            f"makes    {spec.makes} of {taken}, scaling {spec.scaling:g}, shift {spec.shift:g}",
            f"tiles    {count} of {tall.tile}x{wide.tile} numbers of the latent's planes",
        ]
