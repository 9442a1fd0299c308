"""The family of label encoders: the number of a class to a context, one run of one graph.

Knows the record and what a run takes; the stage is loaded when one is opened.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade.cost import Cost
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.errors import InvalidRequest
from cascade.events import Backend
from cascade.family import ComponentSpec, PlanWarning, ReadFile, StartCheck
from cascade.graph_spec import NET
from cascade.labels.dummy_run import LabelDummyRun
from cascade.labels.request_options import LabelOptions
from cascade.labels.spec import LabelEncoderSpec, check_label, check_record, class_number
from cascade.precision import Precision
from cascade.request import FamilyOptions, Handoff
from cascade.stage import EngineStage
from cascade.vectors import NO_VECTORS, VectorUse


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """One run of a label encoder: there is nothing to decide."""


class LabelFamily:
    """See `cascade.family.Family`."""

    spec_type = LabelEncoderSpec
    options_type = LabelOptions
    unit = "label"
    is_discrete = False
    dummy_run = LabelDummyRun()

    def check(self, spec: LabelEncoderSpec, path: str) -> None:
        """See `cascade.labels.spec.check_record`."""
        check_record(spec, path)

    def resolve(self, spec: LabelEncoderSpec, options: FamilyOptions | None) -> LabelPlan:
        """The one plan there is.

        Raises:
            InvalidRequest: there are options.
        """
        chosen = {} if options is None else asdict(options)
        if any(value is not None for value in chosen.values()):
            field = f"options.{spec.name}"
            raise InvalidRequest(f"{field}: a label encoder takes none", field=field)
        return LabelPlan()

    def vectors(self, spec: LabelEncoderSpec) -> VectorUse:
        """None."""
        del spec
        return NO_VECTORS

    def with_own_picture(
        self, spec: LabelEncoderSpec, plan: LabelPlan, low: tuple[int, int]
    ) -> LabelPlan:
        """Refused: a label is no picture."""
        del plan, low
        raise InvalidRequest(f"image: {spec.name} starts from none", field="image")

    def with_size(
        self, spec: LabelEncoderSpec, plan: LabelPlan, made: tuple[int, int]
    ) -> LabelPlan:
        """Refused: a label is no picture."""
        del plan, made
        raise InvalidRequest(f"size: {spec.name} makes no picture", field="size")

    def with_edit(self, spec: LabelEncoderSpec, plan: LabelPlan, edit: StageEdit) -> LabelPlan:
        """Refused: a label is no picture."""
        del plan, edit
        raise InvalidRequest(f"edit: {spec.name} makes no picture", field="edit")

    def why_no_negative(self, spec: LabelEncoderSpec, plan: LabelPlan) -> str:
        """It is not guided."""
        del spec, plan
        return "is not guided"

    def settings(self, spec: LabelEncoderSpec, plan: LabelPlan) -> Mapping[str, Any]:
        """Nothing was chosen."""
        del spec, plan
        return {}

    def warnings(self, spec: LabelEncoderSpec, plan: LabelPlan) -> Sequence[PlanWarning]:
        """No class is a risk."""
        del spec, plan
        return ()

    def cost(self, spec: LabelEncoderSpec, plan: LabelPlan) -> Cost:
        """One run; no pixels, and a context."""
        del plan
        size_bytes = 2 * spec.tokens * spec.makes.width
        return Cost(runs={NET: 1}, units=1, pixels=0, result_bytes=size_bytes)

    def precisions(self, spec: LabelEncoderSpec) -> Collection[Precision]:
        """Any: the exporter has compared results."""
        del spec
        return tuple(Precision)

    def start_check(self, spec: LabelEncoderSpec, read: ReadFile) -> StartCheck:
        """A label is there, and is one of its classes."""
        del read

        def check(handoff: Handoff, _: object) -> None:
            check_label(spec, handoff.label)

        return check

    def open(
        self,
        spec: LabelEncoderSpec,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> EngineStage:
        """The encoder; see `Family.open`."""
        from cascade.labels.stage import LabelEncoderStage  # noqa: PLC0415  see the module

        del position, read
        return LabelEncoderStage(spec, engines[NET], computed)

    def time_rows(self, spec: LabelEncoderSpec) -> tuple[str, ...]:
        """Itself."""
        return (spec.name,)

    def describe(self, spec: LabelEncoderSpec) -> list[str]:
        """How many classes, and some of their names."""
        some = ", ".join(spec.class_names[:5])
        more = ", ..." if len(spec.class_names) > 5 else ""
        return [f"label    one of {spec.classes}" + (f": {some}{more}" if some else "")]


def label_named(components: Iterable[ComponentSpec], word: str) -> int:
    """The number of a class by the name that a bundle's label encoder has for it.

    Raises:
        InvalidRequest: the bundle has no label encoder, or it no class of that name.
    """
    for spec in components:
        if isinstance(spec, LabelEncoderSpec):
            return class_number(spec, word)
    raise InvalidRequest(
        f"label: {word[:64]!r} is no number, and this bundle has no names of classes", field="label"
    )
