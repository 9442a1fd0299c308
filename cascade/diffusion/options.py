"""One run of a diffusion stage, decided and checked before any work.

Fills the manifest's defaults into the gaps of a request and checks that options, context and image
fit one component. Knows the manifest's records and a request; runs nothing.
"""

from dataclasses import dataclass, replace

from cascade.boundary import Context, Image, Tensor, value_of
from cascade.diffusion.guidance import ConstantGuidance, GuidanceWeight, OscillatingGuidance
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import Schedule, TableSchedule, make_schedule, training_steps
from cascade.diffusion.spacing import listed_times
from cascade.diffusion.spec import (
    STRIDED,
    DiffusionSpec,
    SamplerKind,
    evaluations,
    repeated_evaluations,
)
from cascade.diffusion.tiles import Tiling, has_free_sides, tiling_of
from cascade.edit import StageEdit
from cascade.errors import InvalidRequest
from cascade.request import FamilyOptions, Handoff
from cascade.start_inputs import context_inputs, latent, low_image
from cascade.types import Array, ImageU8, Times
from cascade.vectors import vector_inputs

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True, slots=True)
class OwnPicture:
    """What a run makes of a caller's own picture, of whatever size."""

    low: Size | None
    """None of a stage that starts from no picture."""
    made: Size
    tiling: Tiling


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingOptions:
    """One run of a stage with every default filled in."""

    steps: int
    weight: GuidanceWeight
    augmentation: float
    sampler: SamplerKind = "ddim"
    own: OwnPicture | None = None
    """None where the picture before comes from the cascade: of the declared size, with words."""
    edit: StageEdit | None = None
    """The caller's own picture that this one is made of, if any."""

    @property
    def skipped(self) -> int:
        """Steps at the beginning that are not taken, for the run begins with a picture.

        As in diffusers the share of the others is rounded down, but to one at least; none is taken
        at strength 0.
        """
        if self.edit is None or self.edit.strength == 1:
            return 0
        # Rounded before it is rounded down: 0.29 of 100 steps are 29.
        taken = int(round(self.steps * self.edit.strength, 9))
        return self.steps - (max(1, taken) if self.edit.strength > 0 else 0)

    @property
    def evaluations(self) -> int:
        """Runs of the network, guidance counted once; each step as often as it is taken."""
        taken, again = self.steps - self.skipped, 1 if self.edit is None else self.edit.resample
        if again > 1:
            return repeated_evaluations(self.sampler, taken) * again
        return evaluations(self.sampler, taken)


def resolve_options(spec: DiffusionSpec, options: FamilyOptions | None) -> SamplingOptions:
    """The options with the manifest's defaults in the gaps; all of them when None.

    Raises:
        InvalidRequest: an option does not fit this component.
    """
    options = asked_options(spec, options)
    guidance = spec.guidance
    weight: GuidanceWeight
    # A weight that is asked for holds for all steps, also where the default alternates.
    if options.guidance is not None or guidance.kind == "constant":
        weight = ConstantGuidance(guidance.weight if options.guidance is None else options.guidance)
    else:
        weight = OscillatingGuidance(
            high=guidance.weight, low=guidance.low_weight, first_steps=guidance.first_steps
        )
    check_weight(spec, options)
    level = options.augmentation
    field = f"options.{spec.name}.augmentation"
    if spec.augmentation is None:
        if level is not None:
            raise InvalidRequest(f"{field}: {spec.name} starts from no image", field=field)
        level = 0.0
    elif level is None:
        level = spec.augmentation.default
    elif not spec.augmentation.lowest <= level <= spec.augmentation.highest:
        raise InvalidRequest(
            f"{field}: expected {spec.augmentation.lowest:g} to {spec.augmentation.highest:g}, "
            f"got {level:g}",
            field=field,
        )
    steps = options.steps or spec.steps
    known = training_steps(spec.schedule)
    if known is not None and steps > known:
        field = f"options.{spec.name}.steps"
        raise InvalidRequest(f"{field}: expected 1 to {known}, got {steps}", field=field)
    check_times(spec, steps)
    return SamplingOptions(steps=steps, weight=weight, augmentation=level, sampler=spec.sampler)


def with_own_picture(spec: DiffusionSpec, plan: SamplingOptions, low: Size) -> SamplingOptions:
    """The same run of a caller's own picture.

    Args:
        spec: the stage's entry.
        plan: the run.
        low: of the picture that it starts from.

    Raises:
        InvalidRequest: the stage starts from no picture.
    """
    declared = spec.low
    if declared is None:
        raise InvalidRequest(f"image: {spec.name} starts from none", field="image")
    if Tensor in {type(declared), type(spec.makes)} and low != (declared.width, declared.height):
        raise InvalidRequest(
            f"image: {spec.name} works on latents of its declared size: expected {declared}, got "
            f"{low[0]}x{low[1]}",
            field="image",
        )
    factor = spec.makes.width // declared.width
    made = (low[0] * factor, low[1] * factor)
    return replace(plan, own=OwnPicture(low, made, tiling_of(spec, *made)))


def with_size(spec: DiffusionSpec, plan: SamplingOptions, made: Size) -> SamplingOptions:
    """The same run with a picture of another size, from noise.

    Args:
        spec: the entry of a stage that starts from no picture.
        plan: the run.
        made: of the picture.

    Raises:
        InvalidRequest: the graph takes the declared size alone, or the size has more pixels.
    """
    declared = spec.makes
    if made == (declared.width, declared.height):
        return plan
    size = f"{declared.width}x{declared.height}"
    if not has_free_sides(spec):
        raise InvalidRequest(
            f"size: {spec.name} would make {made[0]}x{made[1]}, and its graph was exported for "
            f"{size} alone: leave the size out, or take a bundle whose graph has free sides",
            field="size",
        )
    tiling = tiling_of(spec, *made)
    # Tiles of a picture that begins as noise would each show the prompt.
    if tiling.count > 1 or tiling.tile_pixels > declared.pixels:
        tall, wide = tiling.canvas
        raise InvalidRequest(
            f"size: {spec.name} would sample {wide}x{tall}, more pixels than the {size} that "
            "it was made for: take a smaller size",
            field="size",
        )
    return replace(plan, own=OwnPicture(None, made, tiling))


def asked_options(spec: DiffusionSpec, options: FamilyOptions | None) -> DiffusionOptions:
    """What was chosen, nothing when None.

    Raises:
        InvalidRequest: the options are those of another family.
    """
    if options is None:
        return DiffusionOptions()
    if not isinstance(options, DiffusionOptions):
        field = f"options.{spec.name}"
        raise InvalidRequest(
            f"{field}: {spec.name} is a diffusion stage and takes DiffusionOptions, got "
            f"{type(options).__name__}",
            field=field,
        )
    return options


def check_weight(spec: DiffusionSpec, options: DiffusionOptions) -> None:
    """Refuse a weight that a student of guidance was not taught.

    Raises:
        InvalidRequest: naming the range.
    """
    taught, weight = spec.guidance.taught, options.guidance
    asks = any(vector.unconditional == "zeros" for vector in spec.vectors)
    if weight not in (None, 1.0) and value_of(Context, spec.starts_from) is None and not asks:
        field = f"options.{spec.name}.guidance"
        raise InvalidRequest(
            f"{field}: {spec.name} takes no words to be guided by: expected 1, got {weight:g}",
            field=field,
        )
    if weight not in (None, 1.0) and not taught and not has_unconditional_half(spec):
        field = f"options.{spec.name}.guidance"
        raise InvalidRequest(
            f"{field}: {spec.name} was never shown the question without words or class that "
            f"guidance needs: expected 1, got {weight:g}",
            field=field,
        )
    if taught and weight is not None and not taught[0] <= weight <= taught[1]:
        field = f"options.{spec.name}.guidance"
        raise InvalidRequest(
            f"{field}: {spec.name} was taught {taught[0]:g} to {taught[1]:g}, got {weight:g}",
            field=field,
        )


def has_unconditional_half(spec: DiffusionSpec) -> bool:
    """Whether a network can be asked without its words: by a mask, or by a stored context."""
    masks = any(tensor.name == "context_mask" for tensor in spec.graph.inputs)
    return masks or spec.null_context != "mask"


def check_times(spec: DiffusionSpec, steps: int) -> None:
    """Refuse a number of steps that the schedule cannot space.

    Raises:
        InvalidRequest: an offset takes the run beyond the last training step.
    """
    try:
        run_times(spec, make_schedule(spec.schedule), steps)
    except InvalidRequest as exc:
        field = f"options.{spec.name}.steps"
        raise InvalidRequest(f"{field}: {exc}", field=field) from exc


def run_times(spec: DiffusionSpec, schedule: Schedule, steps: int) -> Times:
    """The times of a run: the component's own list where it has that length.

    Args:
        spec: names the list.
        schedule: spaces the times of any other run.
        steps: from 1.

    Returns:
        `[steps + 1]` float64 in [0, 1], falling to `spec.ends_at`, which is 0 for a clean picture,
        or as `spaced_times` has it.

    Raises:
        InvalidRequest: the schedule cannot space so many.
    """
    known = training_steps(spec.schedule)
    # A list holds for its own length alone: other numbers of steps were never tuned and are spaced.
    if known is not None and len(spec.timesteps) == steps:
        return listed_times(known, spec.timesteps)
    times = spaced_times(spec.sampler, schedule, steps)
    return times if spec.ends_at == 0 else spec.ends_at + (1 - spec.ends_at) * times


def spaced_times(sampler: SamplerKind, schedule: Schedule, steps: int) -> Times:
    """The times of a run over a whole schedule, to the clean picture or to what its table keeps.

    Args:
        sampler: which one takes the steps.
        schedule: spaces them.
        steps: from 1.

    Returns:
        `[steps + 1]` float64 in [0, 1], falling to 0, or to a training step where the schedule's
        offset is at least the stride of a sampler of `STRIDED`.

    Raises:
        InvalidRequest: the schedule cannot space so many.
    """
    times = schedule.timesteps(steps)
    if sampler in STRIDED and isinstance(schedule, TableSchedule) and schedule.spacing == "leading":
        trained = schedule.train_steps
        times[-1] = max(0, schedule.offset + 1 - trained // steps) / trained
    return times


def check_context(
    spec: DiffusionSpec, handoff: Handoff, plan: SamplingOptions | None = None
) -> dict[str, Array]:
    """The context as graph inputs, at the length of its bucket where the graph has a mask.

    None of a stage without words.

    Args:
        spec: of the stage.
        handoff: its context is `[tokens, width]`.
        plan: of the run; a caller's own picture may come without words.

    Returns:
        `context`, `[1, length, width]`, and `context_mask`, `[1, length]` with 1 for real tokens;
        both float32.

    Raises:
        InvalidRequest: there is none, its shape does not fit the graph, or it holds NaN or
            infinity.
    """
    text = value_of(Context, spec.starts_from)
    if text is None or (handoff.context is None and is_own(plan)):
        return {}
    return context_inputs(spec.name, spec.graph, handoff)


def is_own(plan: SamplingOptions | None) -> bool:
    """Whether a run is of a caller's own picture."""
    return plan is not None and plan.own is not None


def check_start(spec: DiffusionSpec, handoff: Handoff, plan: SamplingOptions | None = None) -> None:
    """Refuse what a stage cannot start from.

    Raises:
        InvalidRequest: see `check_context`, `check_image` and `cascade.vectors.vector_inputs`.
    """
    check_context(spec, handoff, plan)
    wordless = handoff.context is None and is_own(plan)
    vector_inputs(spec.name, spec.vectors, handoff.vectors, wordless=wordless)
    if isinstance(spec.low, Tensor):
        latent(spec.name, spec.low, handoff)
    elif spec.low is not None:
        check_image(spec, handoff, plan)


def check_image(
    spec: DiffusionSpec, handoff: Handoff, plan: SamplingOptions | None = None
) -> ImageU8:
    """The image that super-resolution starts from: uint8, of the shape of the manifest or the plan.

    Raises:
        InvalidRequest: there is none, or its shape is another.
    """
    low = value_of(Image, spec.starts_from)
    if low is None:
        raise InvalidRequest(f"image: {spec.name} starts from none", field="image")
    shape = low.shape
    if plan is not None and plan.own is not None and plan.own.low is not None:
        width, height = plan.own.low
        shape = (height, width, low.channels)
    return low_image(spec.name, shape, handoff)
