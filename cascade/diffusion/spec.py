"""What the manifest records of a diffusion stage, and which choices contradict each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Any, Literal

from cascade.boundary import BoundaryValue, Context, Image, Tensor, in_words, value_of
from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.request_options import MAX_STEPS
from cascade.diffusion.schedule import ScheduleSpec, TableSpec, training_steps
from cascade.diffusion.schedule_checks import check_schedule, ends_without_signal
from cascade.errors import ManifestError
from cascade.graph_spec import LEFT_OUT, NET, GraphSpec
from cascade.vectors import VectorSpec, check_read

TEXT_PADDING = {"tokens": "context_mask"}
"""`GraphSpec.padded_by` of a network with a mask, whose texts may be of any length."""
LEVELS = 256
"""Values of a channel: pictures are 8-bit."""

EnlargeKind = Literal["nearest", "bilinear", "cubic", "bicubic_pil", "bilinear_corners", "none"]
"""How the smaller picture is shown: each pixel repeated; linearly between pixel centres; by cubic
convolution in float32; by Pillow's bicubic in 8 bits; linearly between corner pixels; as it is, at
its own size."""

SamplerKind = Literal[
    "ddim",
    "ddpm",
    "ddpm_final_noise",
    "ddpm_final_mean",
    "stochastic",
    "euler",
    "heun",
    "dpmpp_2m",
    "plms",
    "ddim_final_step",
]
"""`ddpm_final_noise` is `ddpm` with noise at the last step too, unless that is training step 0;
`ddpm_final_mean` ends at the mean of the posterior of a time 0 that is not quite clean, and
`ddim_final_step` with a step of `ddim` to it. A reader that does not know them refuses the
bundle."""


RunStart = Literal["noise", "scaled"]
"""Whether a start has the power of all that a network sees, or that of its noise alone."""

ENDING_NOISY: tuple[SamplerKind, ...] = ("ddpm_final_mean", "ddim_final_step")
"""Samplers for tables that keep noise at time 0, and for no other schedule."""

ENDING_EARLY: tuple[SamplerKind, ...] = ("ddim", "euler", "ddpm")
"""Samplers whose last step may end before time 0."""

STRIDED: tuple[SamplerKind, ...] = ("ddim", "ddim_final_step", "plms")
"""Samplers of which each step of a `leading` run is a whole stride long, its last one too."""


def evaluations(sampler: SamplerKind, steps: int) -> int:
    """How often a run of so many steps asks the network, guidance counted once; 0 for none."""
    if sampler == "plms" and steps > 1:
        return steps + 1
    return max(0, 2 * steps - 1) if sampler == "heun" else steps


def repeated_evaluations(sampler: SamplerKind, steps: int) -> int:
    """The same of a run whose steps are each taken as its first one, and no further.

    Of `plms` that is a step of `ddim`: its second evaluation is of the whole run.
    """
    return steps if sampler == "plms" else evaluations(sampler, steps)


PLAIN = "uncond + w (cond - uncond)"
ORTHOGONAL = "cond + (w - 1) orthogonal"
"""What of `cond - uncond` is orthogonal to the conditional estimate of the clean picture."""
GuidanceConvention = Literal[
    "uncond + w (cond - uncond)",
    "cond + (w - 1) orthogonal",
    "cond + (w - 1) orthogonal to prediction",
]
"""What a weight means; the last two leave out what of `cond - uncond` is parallel to the clean
picture, or to the network's prediction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceSpec:
    """Default guidance; by every convention a weight of 1 is none."""

    kind: Literal["constant", "oscillating"]
    """One weight, or two in turns."""
    weight: float
    """The weight, or the higher one."""
    low_weight: float = 1.0
    """Oscillating only."""
    first_steps: int = 0
    """Oscillating only: steps with the high weight before it starts to alternate."""
    convention: GuidanceConvention = "uncond + w (cond - uncond)"
    """What a weight means; `orthogonal` is of `cond - uncond`, to the clean picture or to the
    network's prediction."""
    taught: tuple[float, ...] = ()
    """Students of guidance only: the lowest and the highest weight of their training. The graph
    takes the weight as its input `guidance` and is asked once a step, not twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdSpec:
    """How the estimate of the clean image is kept in range."""

    kind: Literal["none", "static", "dynamic"]
    """Nothing, clipping to [-bound, bound], or dynamic thresholding."""
    percentile: float = 1.0
    """Dynamic only: share of the magnitudes that stays unclipped, 0 to 1."""
    cap: float | None = None
    """Dynamic only: the divisor never exceeds it."""
    bound: float = field(default=1.0, metadata=LEFT_OUT)
    """Static only: the estimate is clipped to [-bound, bound]; left out where that is 1."""


NoisePlace = Literal["enlarged", "small", "before"]
"""Where noise of a level enters: with `before` a run was truncated there (`ends_at`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationSpec:
    """Noise-conditioning augmentation of the low-resolution image."""

    lowest: float
    """Least level that a request may choose."""
    highest: float
    """Largest level that a request may choose."""
    default: float
    """Level where the request chooses none."""
    schedule: ScheduleSpec = "cosine"
    """A level `s` is this schedule's forward process at time `s`."""
    applied_to: NoisePlace = field(default="enlarged", metadata=LEFT_OUT)
    """What the noise is added to: the enlarged picture, or the small one; `before` where the
    component before has left it in its latent, so that none is added."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredContext:
    """A null context kept in the bundle: the embeddings of some fixed text, usually none."""

    file: str
    """`tokens` rows of the text encoder's width, float16, little endian, nothing else."""
    tokens: int
    """Number of rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionSpec:
    """A stage that denoises: a base stage, or super-resolution if it starts from a picture."""

    name: str
    """Unique in the bundle."""
    family: Literal["diffusion"]
    """Names this record."""
    graphs: Mapping[str, GraphSpec]
    """The one network, under the role `net`."""
    starts_from: tuple[BoundaryValue, ...]
    """Text embeddings, and the picture or the latent that super-resolution enlarges."""
    makes: Image | Tensor
    """A picture or a latent, and its size."""
    schedule: ScheduleSpec
    """The noise schedule: the name of a rule, or numbers."""
    prediction: Prediction
    """What the graph's output `prediction` is."""
    variance: Literal["fixed", "learned_range"] = "fixed"
    """Where the `ddpm` sampler takes the variance of a step from: `gamma`, or the graph's second
    output `variance`: per pixel, -1 for the lower bound and 1 for the upper."""
    sampler: SamplerKind
    """The algorithm of a run."""
    steps: int
    """Of a run, where the request chooses none."""
    timesteps: tuple[int, ...] = ()
    """Training steps that a run of just so many steps keeps, the noisiest first, counted from 0;
    empty for the schedule's own choice."""
    gamma: float
    """Stochasticity of the `ddpm` sampler where the variance is fixed."""
    guidance: GuidanceSpec
    """Of a run, where the request chooses none."""
    null_context: Literal["mask"] | StoredContext
    """How the unconditional half is asked for: every token masked out, or another context."""
    threshold: ThresholdSpec
    """What keeps the estimate of the clean picture in range."""
    enlarge: EnlargeKind = "cubic"
    """How the input image is brought to the output resolution; `none` leaves it at its own. Of a
    latent any but `bicubic_pil`."""
    augmentation: AugmentationSpec | None
    """Of super-resolution; null of a base stage."""
    ends_at: float = field(default=0.0, metadata=LEFT_OUT)
    """Time at which a run ends, 0 for the clean picture. Above it the component makes a latent:
    its picture and the noise that is left, for truncated conditioning."""
    start: RunStart = field(default="noise", metadata=LEFT_OUT)
    """What a run begins with: noise as it is drawn, or `scaled` to the sigma of its first time."""
    vectors: tuple[VectorSpec, ...] = field(default=(), metadata=LEFT_OUT)
    """What its graph reads beside all that, each an input `[batch, width]` of its name; left out
    where there is none."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it came about; nothing that runs reads it."""

    @property
    def graph(self) -> GraphSpec:
        """Its one graph."""
        return self.graphs[NET]

    @property
    def low(self) -> Image | Tensor | None:
        """The picture `[h, w, 3]` or latent `[C, h, w]` that is enlarged; None of a base stage."""
        return value_of(Image, self.starts_from) or value_of(Tensor, self.starts_from)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        stored = self.null_context
        return (*self.graph.all_files, *(() if stored == "mask" else (stored.file,)))


def check_choices(spec: DiffusionSpec, path: str) -> None:
    """Refuse choices of one stage that contradict each other.

    Raises:
        ManifestError: naming the field under `path`.
    """
    check_boundary(spec, path)
    check_read(spec.vectors, spec.graph, path)
    check_threshold(spec.threshold, f"{path}.threshold")
    if not 1 <= spec.steps <= MAX_STEPS:
        raise ManifestError(
            f"{path}.steps: {spec.name} takes {spec.steps} by default, 1 to {MAX_STEPS} can be "
            "asked for",
            field=f"{path}.steps",
        )
    learned = spec.variance == "learned_range"
    outputs = {output.name for output in spec.graph.outputs}
    if learned and (spec.sampler != "ddpm" or "variance" not in outputs):
        raise ManifestError(
            f"{path}.variance: learned_range needs the sampler ddpm and a graph with the output "
            f"variance; here are {spec.sampler} and {', '.join(sorted(outputs))}",
            field=f"{path}.variance",
        )
    check_distilled_guidance(spec, path)
    known = training_steps(spec.schedule)
    check_sampler(spec, known, f"{path}.sampler")
    if spec.timesteps:
        kept = (*spec.timesteps, -1)
        falling = all(a > b for a, b in pairwise(kept))
        if known is None or not falling or kept[0] >= known or len(kept) - 1 != spec.steps:
            raise ManifestError(
                f"{path}.timesteps: expected {spec.steps} falling training steps of a schedule "
                f"that has them ({known}), got {len(kept) - 1}",
                field=f"{path}.timesteps",
            )
    check_schedule(spec.schedule, f"{path}.schedule")
    if spec.augmentation is not None:
        check_schedule(spec.augmentation.schedule, f"{path}.augmentation.schedule")
    check_conditioning(spec, path)
    if spec.prediction == "epsilon" and ends_without_signal(spec.schedule):
        raise ManifestError(
            f"{path}.prediction: {spec.name}'s schedule ends without signal, where epsilon does "
            "not tell the clean picture: expected v, x0 or flow",
            field=f"{path}.prediction",
        )


def check_sampler(spec: DiffusionSpec, known: int | None, path: str) -> None:
    """Refuse a sampler on a schedule that it makes nothing of.

    Raises:
        ManifestError: naming the sampler's field.
    """
    if spec.sampler == "ddpm_final_noise" and (spec.gamma != 1 or known is None):
        raise ManifestError(
            f"{path}: ddpm_final_noise needs gamma 1 and a schedule of training steps; "
            f"here are {spec.gamma:g} and {known}",
            field=path,
        )
    if spec.sampler == "plms":
        if known is None or ends_without_signal(spec.schedule):
            raise ManifestError(
                f"{path}: plms needs a schedule of training steps that each keep some signal: "
                "expected another sampler",
                field=path,
            )
        return
    noisy = isinstance(spec.schedule, TableSpec) and spec.schedule.at_zero < 1
    if noisy != (spec.sampler in ENDING_NOISY):
        raise ManifestError(
            f"{path}: {', '.join(ENDING_NOISY)} go with a table whose at_zero is below 1, and no "
            f"other sampler but plms does; here is {spec.sampler}",
            field=path,
        )


def check_threshold(spec: ThresholdSpec, path: str) -> None:
    """Refuse a bound that clips nothing, or all.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if not (spec.bound > 0 and isfinite(spec.bound)) or (spec.bound != 1 and spec.kind != "static"):
        raise ManifestError(
            f"{path}.bound: expected a number above 0, and 1 unless the kind is static; got "
            f"{spec.bound:g} of {spec.kind}",
            field=f"{path}.bound",
        )


def check_conditioning(spec: DiffusionSpec, path: str) -> None:
    """Refuse truncated and small-picture conditioning that no run could have.

    Raises:
        ManifestError: naming the field under `path`.
    """
    continuous = training_steps(spec.schedule) is None
    ends = 0 <= spec.ends_at < 1 and continuous and spec.sampler in ENDING_EARLY
    if spec.ends_at and not (ends and isinstance(spec.makes, Tensor)):
        raise ManifestError(
            f"{path}.ends_at: a run that ends at {spec.ends_at:g} needs 0 to below 1, continuous "
            f"time, one of the samplers {', '.join(ENDING_EARLY)}, and makes a tensor",
            field=f"{path}.ends_at",
        )
    noise = spec.augmentation
    if noise is None or noise.applied_to == "enlarged":
        return
    fixed = noise.lowest == noise.highest == noise.default
    fits = (
        isinstance(spec.low, Tensor) and fixed
        if noise.applied_to == "before"
        else spec.enlarge != "bicubic_pil"
    )
    if not fits:
        raise ManifestError(
            f"{path}.augmentation.applied_to: `before` needs a tensor to start from and one level; "
            f"`small` needs another `enlarge` than bicubic_pil; got {noise.applied_to}",
            field=f"{path}.augmentation.applied_to",
        )


def check_boundary(spec: DiffusionSpec, path: str) -> None:
    """Refuse what this family cannot start from or make.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if set(spec.graphs) != {NET}:
        raise ManifestError(
            f"{path}.graphs: expected one under {NET!r}, got {', '.join(spec.graphs) or 'none'}",
            field=f"{path}.graphs",
        )
    takes = {tensor.name for tensor in spec.graph.inputs}
    words = value_of(Context, spec.starts_from)
    for value, name in ((words, "context"), (spec.low, "low_res")):
        given = value is not None
        if given != (name in takes):
            raise ManifestError(
                f"{path}.starts_from: {in_words(spec.starts_from)}, but its graph "
                f"{'takes' if name in takes else 'does not take'} {name}",
                field=f"{path}.starts_from",
            )
    text = words
    widths = {t.shape[-1] for t in spec.graph.inputs if t.name == "context" and t.shape}
    if text is not None and any(isinstance(w, int) and w != text.width for w in widths):
        raise ManifestError(
            f"{path}.starts_from: {text}, but its graph takes {widths.pop()}",
            field=f"{path}.starts_from",
        )
    known = [value for value in (words, spec.low) if value is not None]
    if len(known) != len(spec.starts_from):
        raise ManifestError(
            f"{path}.starts_from: expected embeddings, a picture or a latent, both or neither, got "
            f"{in_words(spec.starts_from)}",
            field=f"{path}.starts_from",
        )
    # Vectors that become zeros ask the unconditional question as well as words do.
    asks = words is not None or any(v.unconditional == "zeros" for v in spec.vectors)
    if not asks and (
        spec.guidance.kind != "constant" or spec.guidance.weight != 1 or spec.null_context != "mask"
    ):
        raise ManifestError(
            f"{path}.guidance: {spec.name} takes no words to be guided by, nor vectors that become "
            "zeros: expected a constant weight of 1 and the null context mask",
            field=f"{path}.guidance",
        )
    check_sizes(spec, path)


def check_sizes(spec: DiffusionSpec, path: str) -> None:
    """Refuse pictures that super-resolution cannot make of the smaller ones.

    Raises:
        ManifestError: naming the field under `path`.
    """
    low, made = spec.low, spec.makes
    pictures = [value for value in (made, low) if isinstance(value, Image)]
    if any(picture.levels != LEVELS for picture in pictures):
        raise ManifestError(
            f"{path}.makes.levels: this family reads and makes {LEVELS} levels, got "
            f"{pictures[0].levels}",
            field=f"{path}.makes.levels",
        )
    check_channels(spec, path)
    if low is None:
        return
    factor = made.width // max(1, low.width)
    if factor < 1 or (made.width, made.height) != (factor * low.width, factor * low.height):
        raise ManifestError(
            f"{path}.makes: {spec.name} enlarges {low.width}x{low.height} to "
            f"{made.width}x{made.height}, expected a whole multiple, the same both ways",
            field=f"{path}.makes",
        )
    check_shown(spec, low, path)
    if len(pictures) > 1 and low.channels != made.channels:
        raise ManifestError(
            f"{path}.makes.channels: expected {low.channels} as of the smaller picture, got "
            f"{made.channels}",
            field=f"{path}.makes.channels",
        )


def check_channels(spec: DiffusionSpec, path: str) -> None:
    """Refuse a graph that takes latents of other channels than its component starts from and makes.

    Raises:
        ManifestError: naming the field under `path`.
    """
    for value, name, place in (
        (spec.makes, "x_t", "makes"),
        (spec.low, "low_res", "starts_from"),
    ):
        found = [t.shape[1] for t in spec.graph.inputs if t.name == name and len(t.shape) > 1]
        if isinstance(value, Tensor) and found and found[0] != value.channels:
            raise ManifestError(
                f"{path}.{place}: {value}, but the input {name} of its graph has {found[0]} "
                "channels",
                field=f"{path}.{place}",
            )


def check_shown(spec: DiffusionSpec, low: Image | Tensor, path: str) -> None:
    """Refuse a graph that takes the smaller picture in another size than `enlarge` brings it to.

    It is `[batch, C, H, W]` there, of a picture as of a latent.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if isinstance(low, Tensor) and spec.enlarge == "bicubic_pil":
        raise ManifestError(
            f"{path}.enlarge: bicubic_pil is of 8-bit pictures, and {spec.name} starts from {low}: "
            "expected another kind",
            field=f"{path}.enlarge",
        )
    (shape,) = [tensor.shape for tensor in spec.graph.inputs if tensor.name == "low_res"]
    shown = low if spec.enlarge == "none" else spec.makes
    if spec.enlarge != "none" and all(isinstance(side, str) for side in shape[2:]):
        return
    if tuple(shape[2:]) != (shown.height, shown.width):
        found = "x".join(str(side) for side in reversed(shape[2:]))
        raise ManifestError(
            f"{path}.enlarge: {spec.enlarge} shows {spec.name} {shown.width}x{shown.height}, but "
            f"the input low_res of its graph has {found}",
            field=f"{path}.enlarge",
        )


def check_distilled_guidance(spec: DiffusionSpec, path: str) -> None:
    """Refuse a student of guidance without its input, its range or a default inside it.

    Raises:
        ManifestError: naming the field under `path`.
    """
    taught = spec.guidance.taught
    takes = "guidance" in {tensor.name for tensor in spec.graph.inputs}
    if not taught and not takes:
        return
    if spec.guidance.convention != PLAIN:
        raise ManifestError(
            f"{path}.guidance.convention: a student of guidance is asked once and nothing is "
            f"projected: expected {PLAIN!r}, got {spec.guidance.convention!r}",
            field=f"{path}.guidance.convention",
        )
    if len(taught) != 2 or not takes or not taught[0] <= spec.guidance.weight <= taught[1]:
        raise ManifestError(
            f"{path}.guidance.taught: expected the lowest and the highest weight around "
            f"{spec.guidance.weight:g}, and a graph with the input guidance; got {list(taught)}, "
            f"{'with' if takes else 'without'} it",
            field=f"{path}.guidance.taught",
        )
