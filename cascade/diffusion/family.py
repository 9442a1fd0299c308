"""The family of diffusion stages: noise, and what conditions it, to a picture in a few dozen steps.

Knows the record and what a run takes; the sampler is loaded when a stage is opened.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cascade.boundary import Context, Image, Tensor, value_of
from cascade.cost import Cost
from cascade.diffusion.betas import BetaSpec
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.dummy_run import DiffusionDummyRun
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import ScheduleSpec, TableSpec
from cascade.diffusion.spec import DiffusionSpec, StoredContext, check_choices
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.errors import InvalidRequest
from cascade.events import Backend
from cascade.family import ComponentSpec, PlanWarning, ReadFile, StartCheck
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.request import FamilyOptions
from cascade.stage import EngineStage
from cascade.types import ContextF16
from cascade.vectors import VectorUse, vector_words

if TYPE_CHECKING:
    from cascade.diffusion.options import SamplingOptions

WORKING_BYTES = 72
"""Of a pixel while it is sampled: noise, noisy picture, estimate, smaller picture and what lies
between them, three float32 numbers each."""


class DiffusionFamily:
    """See `cascade.family.Family`."""

    spec_type = DiffusionSpec
    options_type = DiffusionOptions
    unit = "step"
    is_discrete = False
    dummy_run = DiffusionDummyRun()

    def check(self, spec: DiffusionSpec, path: str) -> None:
        """See `cascade.diffusion.spec.check_choices`."""
        check_choices(spec, path)

    def resolve(self, spec: DiffusionSpec, options: FamilyOptions | None) -> "SamplingOptions":
        """See `cascade.diffusion.options.resolve_options`."""
        from cascade.diffusion.options import resolve_options  # noqa: PLC0415  see the module

        return resolve_options(spec, options)

    def vectors(self, spec: DiffusionSpec) -> VectorUse:
        """What its graph reads."""
        return VectorUse(reads=spec.vectors)

    def with_own_picture(
        self, spec: DiffusionSpec, plan: "SamplingOptions", low: tuple[int, int]
    ) -> "SamplingOptions":
        """See `cascade.diffusion.options.with_own_picture`."""
        from cascade.diffusion.options import with_own_picture  # noqa: PLC0415

        return with_own_picture(spec, plan, low)

    def with_size(
        self, spec: DiffusionSpec, plan: "SamplingOptions", made: tuple[int, int]
    ) -> "SamplingOptions":
        """See `cascade.diffusion.options.with_size`."""
        from cascade.diffusion.options import with_size  # noqa: PLC0415

        return with_size(spec, plan, made)

    def with_edit(
        self, spec: DiffusionSpec, plan: "SamplingOptions", edit: StageEdit
    ) -> "SamplingOptions":
        """Noised to where the run begins, or put back at every step.

        Raises:
            InvalidRequest: the stage makes a latent, which shows no pixel.
        """
        if isinstance(spec.makes, Tensor):
            raise InvalidRequest(
                f"edit: {spec.name} makes a latent, of which no pixel is known: leave it out",
                field="edit",
            )
        return replace(plan, edit=edit)

    def why_no_negative(self, spec: DiffusionSpec, plan: "SamplingOptions") -> str:
        """No words, guidance that was taught, or weight 1."""
        if value_of(Context, spec.starts_from) is None:
            return "takes no words"
        made = [vector.name for vector in spec.vectors if vector.source == "words"]
        if made:
            return f"reads {made[0]} of the words too, which a negative prompt does not replace"
        if spec.guidance.taught:
            return "was taught its guidance and is asked once a step, with the words alone"
        if all(plan.weight.at(step) == 1 for step in range(plan.steps)):
            return "has guidance weight 1, give it another"
        return ""

    def settings(self, spec: DiffusionSpec, plan: "SamplingOptions") -> Mapping[str, Any]:
        """Steps, guidance, and the augmentation where the stage has one."""
        found = {"steps": plan.steps, "guidance": weight_words(plan.weight)}
        return found if spec.augmentation is None else {**found, "augmentation": plan.augmentation}

    def warnings(self, spec: DiffusionSpec, plan: "SamplingOptions") -> Sequence[PlanWarning]:
        """A run that starts in the middle of its schedule."""
        from cascade.diffusion.run_start import late_start  # noqa: PLC0415

        late = late_start(spec, plan.steps)
        return () if late is None else (late,)

    def cost(self, spec: DiffusionSpec, plan: "SamplingOptions") -> Cost:
        """A run and a picture's pixels per step; of an own picture, those of every tile."""
        own, made = plan.own, spec.makes.pixels
        if own is not None:
            runs = plan.evaluations * own.tiling.count
            tall, wide = own.tiling.canvas
            return Cost(
                runs={NET: runs},
                units=runs,
                pixels=runs * own.tiling.tile_pixels,
                result_bytes=own.made[0] * own.made[1] * (spec.makes.size_bytes // made),
                working_bytes=WORKING_BYTES * tall * wide,
            )
        return Cost(
            runs={NET: plan.evaluations},
            units=plan.evaluations,
            pixels=plan.evaluations * made,
            result_bytes=spec.makes.size_bytes,
        )

    def precisions(self, spec: DiffusionSpec) -> Collection[Precision]:
        """Any: the exporter has compared results."""
        del spec
        return tuple(Precision)

    def start_check(self, spec: DiffusionSpec, read: ReadFile) -> StartCheck:
        """The context fits the graph, and so does the picture where there must be one."""
        from cascade.diffusion.options import check_start  # noqa: PLC0415

        del read
        return lambda handoff, plan: check_start(spec, handoff, plan)

    def open(
        self,
        spec: DiffusionSpec,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> EngineStage:
        """The stage with its null context, if it has one; see `Family.open`."""
        from cascade.diffusion.stage import DiffusionStage  # noqa: PLC0415

        null_context = read_null_context(spec, read)
        return DiffusionStage(
            spec, position, engines[NET], null_context=null_context, computed=computed
        )

    def time_rows(self, spec: DiffusionSpec) -> tuple[str, ...]:
        """Itself."""
        return (spec.name,)

    def describe(self, spec: DiffusionSpec) -> list[str]:
        """Image or latent, schedule, sampler, and whether its default run starts late."""
        low, word = spec.low, "latent" if isinstance(spec.makes, Tensor) else "image"
        start = "" if low is None else f"{sides(low)} -> "
        lines = [
            f"{word:8} {start}{sides(spec.makes)}, {spec.prediction}-prediction, "
            f"{schedule_words(spec.schedule)}",
            f"sampler  {spec.sampler}, {spec.steps} steps, guidance "
            f"{spec.guidance.weight:g} ({spec.guidance.convention}), "
            f"{spec.threshold.kind} thresholding, {spec.variance} variance",
        ]
        lines.extend(f"vector   {vector_words(vector)}" for vector in spec.vectors)
        plan = self.resolve(spec, None)
        lines.extend(f"warning  {warning}" for warning in self.warnings(spec, plan))
        if spec.augmentation is not None:
            a = spec.augmentation
            lines.append(f"augment  {a.default:g} by default, {a.lowest:g} to {a.highest:g}")
        return lines


def read_null_context(spec: DiffusionSpec, read: ReadFile) -> ContextF16 | None:
    """The embeddings `[tokens, width]` that stand in the place of a text, if the bundle has some.

    Raises:
        ManifestError: the file holds something else.
    """
    from cascade.diffusion.unconditional import read_stored_context  # noqa: PLC0415

    stored, text = spec.null_context, value_of(Context, spec.starts_from)
    if not isinstance(stored, StoredContext) or text is None:
        return None
    return read_stored_context(stored, read(stored.file), text.width)


def sides(made: Image | Tensor) -> str:
    """`64` for a square, `64x48` for what is none, and the channels of a latent `[C, h, w]`."""
    size = str(made.width) if made.width == made.height else f"{made.width}x{made.height}"
    return size if isinstance(made, Image) else f"{made.channels} channels of {size}"


def schedule_words(schedule: ScheduleSpec) -> str:
    """A schedule's name, or how many numbers it is."""
    if isinstance(schedule, TableSpec):
        return f"schedule of {len(schedule.alpha_bar)} tabulated steps, {spacing_words(schedule)}"
    if isinstance(schedule, BetaSpec):
        ends = ", no signal at the end" if schedule.zero_terminal_snr else ""
        return (
            f"schedule of {schedule.train_steps} {schedule.rule} betas{ends}, "
            f"{spacing_words(schedule)}"
        )
    if isinstance(schedule, SigmaSpec):
        return f"{schedule.rule} sigmas from {schedule.lowest:g} to {schedule.highest:g}"
    if isinstance(schedule, FlowSpec):
        return f"rectified flow, shift {schedule.shift:g}"
    return f"{schedule} schedule"


def spacing_words(schedule: TableSpec | BetaSpec) -> str:
    """What a shorter run keeps."""
    return schedule.spacing if schedule.ramp == "steps" else f"{schedule.ramp} sigmas"


def weight_words(weight: object) -> Any:
    """A guidance weight as JSON: a number, or how it alternates."""
    from cascade.diffusion.guidance import OscillatingGuidance  # noqa: PLC0415

    if isinstance(weight, OscillatingGuidance):
        return {"high": weight.high, "low": weight.low, "first_steps": weight.first_steps}
    return getattr(weight, "weight", None)


def diffusion_specs(components: Iterable[ComponentSpec]) -> tuple[DiffusionSpec, ...]:
    """The diffusion stages among components, for tools that know no other family."""
    return tuple(spec for spec in components if isinstance(spec, DiffusionSpec))
