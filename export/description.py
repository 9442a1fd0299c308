"""A cascade from elsewhere, described: torch modules that follow the input contract, and choices.

What every adapter makes and the one writer takes; a user's factory returns it too. The input
contract of a stage's network is keyword arguments `x_t` `[B, 3, H, W]`, `t` `[B]` in (0, 1], where
it reads words or classes `context` `[B, L, D]` and `context_mask` `[B, L]` (1 for a real token),
and for super-resolution
`low_res` `[B, 3, H, W]` (of the smaller size with `enlarge="none"`) and `aug_level` `[B]`; it
returns `prediction`, or the tuple `prediction, variance`, each `[B, 3, H, W]`. Every input is
float32 and per sample: rows of one batch may hold different times, levels and texts. A student of
guidance takes its weight as `guidance` `[B]` too, and named vectors come `[B, width]` each.
Records only; nothing here knows where the modules come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.schedule import ScheduleSpec, make_schedule
from cascade.diffusion.schedule_checks import check_schedule, ends_without_signal
from cascade.diffusion.spec import (
    PLAIN,
    AugmentationSpec,
    EnlargeKind,
    GuidanceSpec,
    RunStart,
    SamplerKind,
    ThresholdSpec,
)
from cascade.errors import InvalidRequest, ManifestError, UnsupportedModel
from cascade.pixels.scheme import PassScheme
from cascade.pixels.spec import PixelAugmentation
from cascade.pixels.weights import UNIT_SIXTEENTHS
from cascade.request import Handoff
from cascade.types import Array
from cascade.vectors import VectorSpec
from export.subjects import RUNS, Subject, made_up_pictures, spread


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderDescription:
    """A text encoder and its tokenizer."""

    network: nn.Module
    """Takes `token_ids` `[B, L]` int64 and `token_mask` `[B, L]` float32, returns `[B, L, D]`."""
    tokenizer: bytes
    """A `tokenizer.json`; text cleaning is its normalizer, special tokens its post-processor."""
    max_tokens: int
    """Longest prompt, special tokens included; a longer one is refused, never cut."""
    context_width: int
    """D."""
    pad_token: int | None = None
    """Fills every prompt to `max_tokens`, for stages trained to see the padding; None for none."""
    vectors: Mapping[str, int] = field(default_factory=dict)
    """By name and width, what the network returns after the context, in this order: `[B, width]`
    each, such as pooled text."""
    provenance: str
    exact: bool = False
    """Whether every engine has to give the very same bits: no number is then rounded on the way."""
    samples: tuple[Mapping[str, Array], ...] = ()
    """Batches of inputs to measure parity on; the cascade's prompts and the longest prompt there
    is when empty."""

    @property
    def context_length(self) -> int | None:
        """Tokens of every context; None where it follows the prompt."""
        return None if self.pad_token is None else self.max_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelEncoderDescription:
    """A label encoder: the number of a class to a context, for class-conditional cascades."""

    network: nn.Module
    """Takes `label` `[B]` int64, returns `[B, tokens, D]`. What it returns crosses in half
    precision: a one-hot vector does so without loss, a row of a table does not."""
    classes: int
    """How many there are."""
    context_width: int
    """D."""
    tokens: int = 1
    """Rows of the context."""
    class_names: tuple[str, ...] = ()
    """Of the classes in order; empty where they have numbers alone."""
    provenance: str

    @property
    def context_length(self) -> int | None:
        """Tokens of every context."""
        return self.tokens


EncoderDescription = TextEncoderDescription | LabelEncoderDescription


@dataclass(frozen=True, slots=True)
class RunStarts:
    """Where sampling runs begin: a context, and for super-resolution a picture, each."""

    calibration: tuple[Handoff, ...]
    """Of the runs that the ranges of int8 activations are drawn from."""
    proof: tuple[Handoff, ...]
    """Of the runs whose pictures decide whether int8 is good enough; share nothing with those."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageDescription:
    """One diffusion stage: its network and how it is sampled."""

    name: str
    network: nn.Module
    output_resolution: int
    input_resolution: int | None = None
    """None for the stage that starts from noise alone."""
    steps: int
    schedule: ScheduleSpec = "cosine"
    prediction: Prediction = "v"
    learned_variance: bool = False
    """The network returns a second output for the `ddpm` sampler."""
    sampler: SamplerKind = "ddim"
    gamma: float = 0.0
    """Stochasticity of the `ddpm` sampler where no variance is learned."""
    timesteps: tuple[int, ...] = ()
    """Training steps of a default run, the noisiest first; empty for the schedule's own choice."""
    ends_at: float = 0.0
    """Time at which a run ends, for truncated conditioning; see the manifest."""
    start: RunStart = "noise"
    """What a run begins with; see the manifest."""
    guidance: GuidanceSpec = field(
        default_factory=lambda: GuidanceSpec(kind="constant", weight=1.0)
    )
    null_text: str | None = None
    """Text whose embeddings ask the unconditional question; None masks every token out."""
    threshold: ThresholdSpec = field(
        default_factory=lambda: ThresholdSpec(kind="dynamic", percentile=0.995)
    )
    enlarge: EnlargeKind = "cubic"
    augmentation: AugmentationSpec | None = None
    """Needed by, and only by, a stage with an input resolution."""
    latent_channels: int | None = None
    """Of the latent that it makes, in the place of 3 for `x_t` and `prediction`; None makes a
    picture."""
    input_latent_channels: int | None = None
    """Of the latent that it starts from, in the place of 3 for `low_res`; None for a picture."""
    uses_context: bool = True
    """Whether the network takes `context`: it is guided by words, or reads a class."""
    uses_mask: bool = True
    """Whether the network takes `context_mask`; of one with `context` alone."""
    uses_level: bool = True
    """Whether the network takes `aug_level`; one that was trained without noise may not."""
    vectors: tuple[VectorSpec, ...] = ()
    """What the network takes beside all that, each `[B, width]` under its name."""
    any_size: bool = False
    """Whether height and width stay free in the graph; they are then multiples of 32."""
    samples: tuple[Mapping[str, Array], ...] = ()
    """Inputs to measure parity on, each a whole batch by name; synthetic ones at several times
    when empty."""
    starts: RunStarts | None = None
    """Where the runs of int8 begin, half of which give way to pictures of the stage before; None
    for the cascade's prompts and those pictures alone."""
    fusions: Mapping[str, int] | None = None
    """How often each graph pass has to fire; None where the network's structure is not known."""
    skip_scale: Literal["long_skips", "inside"] = "inside"
    """Where the network scales its skip connections by 1/sqrt(2), for the manifest."""
    training: Mapping[str, str | float] = field(default_factory=dict)
    """What the manifest shall say of the training."""

    @property
    def has_int8_form(self) -> bool:
        """Whether int8 is tried: its runs begin with words or a picture, not with a latent."""
        return self.input_latent_channels is None

    @property
    def calibrates_on_prompts(self) -> bool:
        """Whether int8 has the cascade's prompts alone to begin its runs with."""
        return self.starts is None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself before anything is exported."""
        if (self.input_resolution is None) != (self.augmentation is None):
            raise UnsupportedModel(
                f"{self.name}.augmentation: a stage with an input resolution needs one (0 to 0 if "
                "it was trained without), a stage without takes none",
                field=f"{self.name}.augmentation",
            )
        if self.input_resolution and self.output_resolution % self.input_resolution:
            raise UnsupportedModel(
                f"{self.name}.output_resolution: expected a multiple of {self.input_resolution}, "
                f"got {self.output_resolution}",
                field=f"{self.name}.output_resolution",
            )
        if not self.uses_level and self.augmentation and self.augmentation.highest > 0:
            raise UnsupportedModel(
                f"{self.name}.uses_level: a network that is not told the level was trained without "
                f"noise: expected an augmentation of 0 to 0, got {self.augmentation.highest:g}",
                field=f"{self.name}.uses_level",
            )
        self._check_words()
        if self.enlarge == "none" and self.any_size:
            raise UnsupportedModel(
                f"{self.name}.any_size: a network that is shown the smaller picture as it is "
                "has a fixed size: leave any_size out; other sizes are made of tiles",
                field=f"{self.name}.any_size",
            )
        try:
            make_schedule(self.schedule).timesteps(self.steps)
        except InvalidRequest as exc:
            raise UnsupportedModel(
                f"{self.name}.steps: the default run cannot be made: {exc}: fewer steps, or the "
                "schedule that goes with them",
                field=f"{self.name}.steps",
            ) from exc
        self._check_guidance()

    def _check_guidance(self) -> None:
        """Refuse a stage that cannot be asked the unconditional question, and would have to be."""
        unguided = self.guidance.kind == "constant" and self.guidance.weight == 1
        zeros = any(vector.unconditional == "zeros" for vector in self.vectors)
        if not self.uses_context and not zeros and not (unguided and self.null_text is None):
            raise UnsupportedModel(
                f"{self.name}.guidance: without context, or vectors that become zeros, there is "
                "nothing to be guided by: expected a constant weight of 1 and no null_text",
                field=f"{self.name}.guidance",
            )
        if self.uses_context and not self.uses_mask and self.null_text is None and not unguided:
            raise UnsupportedModel(
                f"{self.name}.null_text: a network without a mask needs the text of its "
                'unconditional half, usually ""',
                field=f"{self.name}.null_text",
            )

    def _check_words(self) -> None:
        """Refuse numbers and words that the manifest would refuse at the end of an export."""
        try:
            check_schedule(self.schedule, f"{self.name}.schedule")
            if self.augmentation is not None:
                check_schedule(self.augmentation.schedule, f"{self.name}.augmentation.schedule")
        except ManifestError as exc:
            raise UnsupportedModel(str(exc), field=exc.field) from exc
        if self.prediction == "epsilon" and ends_without_signal(self.schedule):
            raise UnsupportedModel(
                f"{self.name}.prediction: the schedule ends without signal, where epsilon does not "
                "tell the clean picture: expected v, x0 or flow",
                field=f"{self.name}.prediction",
            )
        if self.guidance.taught and self.guidance.convention != PLAIN:
            raise UnsupportedModel(
                f"{self.name}.guidance.convention: expected {PLAIN!r} of a student of guidance",
                field=f"{self.name}.guidance.convention",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelStageDescription:
    """One stage that makes its picture by groups of pixels: its networks and its passes.

    Both networks have to be exact (`stages.networks.exact`): what is drawn from their answers is
    another picture wherever one bit is another.
    """

    name: str
    body: nn.Module
    """Takes `canvas` `[B, 3, H, W]` (0 to 255, 0 where unknown), `known` `[B, 1, H, W]`,
    `pass_index` `[B]` int64, `targets` `[B, n]` int64, with a parent `low_res` `[B, 3, h, w]`, and
    where they are used `context`, `context_mask` and `aug_level` `[B]`; returns `features`
    `[B, n, F]`. All float32 unless said, all per sample."""
    heads: nn.Module
    """Takes `features`, `earlier` `[B, n, 2]` int64 (256 for a channel to come) and, where there
    are candidates, `match` `[B, n, K]`; returns `high` `[B, n, 16]`, `low` `[B, n, 256]` and, where
    there are candidates, `copy` `[B, n, K + 1]`: whole numbers of sixteenths of a nat."""
    features: int
    """F."""
    scheme: PassScheme
    """Passes, guesses and candidates; planes of 8 bits."""
    output_resolution: int
    input_resolution: int | None = None
    """Of the parent; None for a first stage."""
    uses_context: bool = True
    """Whether the body takes `context` and `context_mask`."""
    augmentation: PixelAugmentation | None = None
    """Where the body takes `aug_level`."""
    temperature_16: int = UNIT_SIXTEENTHS
    floor_16: int = 0
    guidance_16: int = UNIT_SIXTEENTHS
    """Defaults of the three choices, in sixteenths; guidance only where the body takes a mask."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Figures for the manifest, such as bits per value of held-out pictures."""
    training: Mapping[str, str | float] = field(default_factory=dict)
    """What the manifest shall say of the training."""

    @property
    def has_int8_form(self) -> bool:
        """In another precision its pictures would be others."""
        return False

    @property
    def calibrates_on_prompts(self) -> bool:
        """Nothing is calibrated."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderDescription:
    """One half of an autoencoder: a picture to a latent, or a latent to a picture."""

    name: str
    network: nn.Module
    """An encoder takes `picture` `[B, 3, H, W]` in [-1, 1] and returns the mean `[B, C, h, w]`; a
    decoder takes `latent` and returns the picture. Float32, per sample."""
    encodes: bool
    """Whether it makes a latent of a picture, and not the other way."""
    resolution: int
    """Height and width of the picture."""
    latent_resolution: int
    """Height and width of the latent."""
    latent_channels: int
    """C."""
    scaling: float = 1.0
    """A latent of the cascade is the network's, less `shift`, times this."""
    shift: float = 0.0
    """See `scaling`."""
    tile: int | None = None
    """Height and width of the part of the latent that the graph takes; None for the whole."""
    passes_words: bool = False
    """Whether it hands the context on: where a stage after it reads it."""
    samples: tuple[Mapping[str, Array], ...] = ()
    """Inputs to measure parity on, each a whole batch by name; noise when empty."""
    training: Mapping[str, str | float] = field(default_factory=dict)
    """What the manifest shall say of the training."""

    @property
    def factor(self) -> int:
        """Pixels that a number of the latent's plane stands for, along one side."""
        return self.resolution // self.latent_resolution

    @property
    def uses_context(self) -> bool:
        """It reads none."""
        return False

    @property
    def input_resolution(self) -> int | None:
        """Of the picture that it starts from; None of a decoder."""
        return self.resolution if self.encodes else None

    @property
    def has_int8_form(self) -> bool:
        """None is written."""
        return False

    @property
    def calibrates_on_prompts(self) -> bool:
        """Nothing is calibrated."""
        return False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself before anything is exported."""
        if self.latent_resolution < 1 or self.resolution != self.factor * self.latent_resolution:
            raise UnsupportedModel(
                f"{self.name}.resolution: expected a multiple of {self.latent_resolution}, got "
                f"{self.resolution}",
                field=f"{self.name}.resolution",
            )
        if self.tile is not None and not 1 <= self.tile <= self.latent_resolution:
            raise UnsupportedModel(
                f"{self.name}.tile: expected 1 to {self.latent_resolution}, got {self.tile}",
                field=f"{self.name}.tile",
            )
        if not self.scaling:
            raise UnsupportedModel(
                f"{self.name}.scaling: expected not 0", field=f"{self.name}.scaling"
            )


AnyStageDescription = StageDescription | PixelStageDescription | AutoencoderDescription


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeDescription:
    """A whole cascade, the smallest stage first."""

    stages: tuple[AnyStageDescription, ...]
    licence: str
    """Of the weights."""
    provenance: str
    """Who trained them on what, or where they come from."""
    text_encoder: TextEncoderDescription | None = None
    """None for the one that `--text-encoder` gives, or the frozen one of the reference cascade."""
    label_encoder: LabelEncoderDescription | None = None
    """Of a class-conditional cascade; in the place of a text encoder."""
    prompts: tuple[str, ...] = ("a red apple", "two cats on a green chair")
    """What the text encoder and the whole cascade are compared on."""
    requires_gpu_forms: bool = False
    """Whether a component that gets no form for GPUs, where one is asked for, is an error."""

    def __post_init__(self) -> None:
        """Refuse what no bundle can hold before anything is exported."""
        names = [stage.name for stage in self.stages]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise UnsupportedModel(
                    f"stages: two stages are called {name}: each needs a name of its own; is one "
                    "folder named twice?",
                    field="stages",
                )
        self._check_passed_on()
        if self.label_encoder is not None and (
            self.text_encoder is not None or not self.reads_context
        ):
            raise UnsupportedModel(
                "label_encoder: a cascade begins with words or with a class, and only where a "
                "stage reads its context: leave one encoder out",
                field="label_encoder",
            )

    def _check_passed_on(self) -> None:
        """Refuse an autoencoder that loses the context of a stage after it."""
        for index, stage in enumerate(self.stages):
            later = [other.name for other in self.stages[index + 1 :] if other.uses_context]
            if isinstance(stage, AutoencoderDescription) and later and not stage.passes_words:
                raise UnsupportedModel(
                    f"{stage.name}.passes_words: {later[0]} after it reads the context: expected "
                    "True",
                    field=f"{stage.name}.passes_words",
                )

    @property
    def reads_context(self) -> bool:
        """Whether any stage reads what an encoder makes."""
        return any(stage.uses_context for stage in self.stages)

    @property
    def encoder(self) -> EncoderDescription | None:
        """What makes the context; None where no stage reads one.

        Raises:
            UnsupportedModel: a stage reads one, and nothing makes it.
        """
        if self.label_encoder is not None:
            return self.label_encoder
        if not self.reads_context and self.text_encoder is None:
            return None
        if self.text_encoder is None:
            raise UnsupportedModel("text_encoder: give --text-encoder FOLDER", field="text_encoder")
        return self.text_encoder

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What the whole cascade is compared on: prompts, classes, pictures or noise alone."""
        if self.label_encoder is not None:
            return tuple(spread(self.label_encoder.classes))
        if self.reads_context:
            return self.prompts
        low = self.stages[0].input_resolution
        return (None,) * RUNS if low is None else tuple(made_up_pictures(low))
