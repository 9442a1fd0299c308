"""The family of text encoders: a prompt to a context, one run of one graph.

Knows the record and what a run takes; the stage and the tokenizer are loaded when one is opened.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.cost import Cost
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.errors import InvalidRequest, ManifestError
from cascade.events import Backend
from cascade.family import ComponentSpec, PlanWarning, ReadFile, StartCheck
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.request import FamilyOptions, Handoff
from cascade.stage import EngineStage
from cascade.text.dummy_run import TextDummyRun
from cascade.text.request_options import TextOptions
from cascade.text.spec import TextEncoderSpec, check_record
from cascade.vectors import VectorUse


@dataclass(frozen=True, slots=True)
class TextPlan:
    """One run of a text encoder: there is nothing to decide."""


class TextEncoderFamily:
    """See `cascade.family.Family`."""

    spec_type = TextEncoderSpec
    options_type = TextOptions
    unit = "prompt"
    is_discrete = False
    dummy_run = TextDummyRun()

    def check(self, spec: TextEncoderSpec, path: str) -> None:
        """See `cascade.text.spec.check_record`."""
        check_record(spec, path)

    def resolve(self, spec: TextEncoderSpec, options: FamilyOptions | None) -> TextPlan:
        """The one plan there is.

        Raises:
            InvalidRequest: there are options.
        """
        chosen = {} if options is None else {n: getattr(options, n) for n in fields_of(options)}
        if any(value is not None for value in chosen.values()):
            field = f"options.{spec.name}"
            raise InvalidRequest(f"{field}: the text encoder takes none", field=field)
        return TextPlan()

    def vectors(self, spec: TextEncoderSpec) -> VectorUse:
        """What it makes of the words beside their context."""
        return VectorUse(makes=spec.vectors)

    def with_own_picture(
        self, spec: TextEncoderSpec, plan: TextPlan, low: tuple[int, int]
    ) -> TextPlan:
        """Refused: words are no picture."""
        del plan, low
        raise InvalidRequest(f"image: {spec.name} starts from none", field="image")

    def with_size(self, spec: TextEncoderSpec, plan: TextPlan, made: tuple[int, int]) -> TextPlan:
        """Refused: words are no picture."""
        del plan, made
        raise InvalidRequest(f"size: {spec.name} makes no picture", field="size")

    def with_edit(self, spec: TextEncoderSpec, plan: TextPlan, edit: StageEdit) -> TextPlan:
        """Refused: words are no picture."""
        del plan, edit
        raise InvalidRequest(f"edit: {spec.name} makes no picture", field="edit")

    def why_no_negative(self, spec: TextEncoderSpec, plan: TextPlan) -> str:
        """It is not guided."""
        del spec, plan
        return "is not guided"

    def settings(self, spec: TextEncoderSpec, plan: TextPlan) -> Mapping[str, Any]:
        """Nothing was chosen."""
        del spec, plan
        return {}

    def warnings(self, spec: TextEncoderSpec, plan: TextPlan) -> Sequence[PlanWarning]:
        """No prompt is a risk."""
        del spec, plan
        return ()

    def cost(self, spec: TextEncoderSpec, plan: TextPlan) -> Cost:
        """One run; no pixels, and a context of the longest prompt."""
        del plan
        size_bytes = 2 * spec.max_tokens * spec.makes.width
        return Cost(runs={NET: 1}, units=1, pixels=0, result_bytes=size_bytes)

    def precisions(self, spec: TextEncoderSpec) -> Collection[Precision]:
        """Any: the exporter has compared results."""
        del spec
        return tuple(Precision)

    def start_check(self, spec: TextEncoderSpec, read: ReadFile) -> StartCheck:
        """A prompt is there and is not too long in tokens."""
        from cascade.text.tokenizer import PromptTokenizer  # noqa: PLC0415  see the module

        tokenizer = PromptTokenizer(read(spec.tokenizer_file), spec.max_tokens)

        def check(handoff: Handoff, _: object) -> None:
            if handoff.prompt is None:
                raise InvalidRequest("prompt: the text encoder needs one", field="prompt")
            tokenizer(handoff.prompt)

        return check

    def open(
        self,
        spec: TextEncoderSpec,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> EngineStage:
        """The encoder with its tokenizer; see `Family.open`."""
        from cascade.text.stage import TextEncoderStage  # noqa: PLC0415
        from cascade.text.tokenizer import PromptTokenizer  # noqa: PLC0415

        del position
        tokenizer = PromptTokenizer(read(spec.tokenizer_file), spec.max_tokens)
        return TextEncoderStage(spec, tokenizer, engines[NET], computed)

    def time_rows(self, spec: TextEncoderSpec) -> tuple[str, ...]:
        """Tokenizer and network."""
        del spec
        return ("tokenise", "encode")

    def describe(self, spec: TextEncoderSpec) -> list[str]:
        """Its limit."""
        made = [
            f"vector   {name}, {width} numbers of the words" for name, width in spec.vectors.items()
        ]
        return [f"text     at most {spec.max_tokens} tokens", *made]


def fields_of(options: FamilyOptions) -> tuple[str, ...]:
    """Names of the choices."""
    return tuple(options.__dataclass_fields__)


def text_encoder_of(components: Iterable[ComponentSpec]) -> TextEncoderSpec:
    """The text encoder among components, for tools that need one.

    Raises:
        ManifestError: there is none.
    """
    for spec in components:
        if isinstance(spec, TextEncoderSpec):
            return spec
    raise ManifestError("manifest.components: this bundle has no text encoder")
