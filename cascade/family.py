"""What a family of components must answer: the seam between the cascade and its kinds of networks.

A family knows one kind of component (a text encoder, a diffusion stage): what its entry in the
manifest may say, what a caller may choose, what that costs, and how it runs on engines. Everybody
else asks the family. Knows no family; `cascade.families` has the table.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from cascade.boundary import BoundaryValue
from cascade.cost import Cost
from cascade.edit import StageEdit
from cascade.engine import Engine
from cascade.events import Backend
from cascade.graph_spec import GraphSpec
from cascade.precision import Precision
from cascade.request import FamilyOptions, Handoff
from cascade.stage import EngineStage
from cascade.types import Array
from cascade.vectors import VectorUse

ReadFile = Callable[[str], bytes]
"""A file of the bundle by its name, its hash checked; raises `ManifestError`."""
StartCheck = Callable[[Handoff, Any], None]
"""Raises `InvalidRequest`, naming the field, unless a component can start from a handoff by a plan;
by its default one where that is None."""


class ComponentSpec(Protocol):
    """A component's entry in the manifest, as far as all families have it in common."""

    @property
    def family(self) -> str:
        """Which family the rest of the entry belongs to."""
        ...

    @property
    def name(self) -> str:
        """The component's name, unique in its bundle."""
        ...

    @property
    def graphs(self) -> Mapping[str, GraphSpec]:
        """Its exported graphs by role."""
        ...

    @property
    def starts_from(self) -> tuple[BoundaryValue, ...]:
        """What it needs before it can run; nothing for noise alone."""
        ...

    @property
    def makes(self) -> BoundaryValue:
        """Its result."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How it came about, in whatever words; nothing that runs reads it."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        ...


class PlanWarning(Protocol):
    """What a caller should know of a run before it begins; its `str` is one line."""

    @property
    def stage(self) -> str:
        """The component's name."""
        ...


Spec_contra = TypeVar("Spec_contra", bound=ComponentSpec, contravariant=True)
Plan = TypeVar("Plan")


class FamilyTraits(Protocol):
    """What holds for every component of a family, whatever its entry says."""

    @property
    def spec_type(self) -> type[Any]:
        """The record of a component in the manifest, a frozen dataclass."""
        ...

    @property
    def options_type(self) -> type[Any]:
        """What a caller may choose, a frozen dataclass; see `FamilyOptions`."""
        ...

    @property
    def unit(self) -> str:
        """What `Progress` counts, for people."""
        ...

    @property
    def is_discrete(self) -> bool:
        """Whether results are drawn from finitely many values.

        Then another engine or precision does not change a picture a little but, where a draw falls
        the other way, into another one: nothing that was not asked for may be taken.
        """
        ...


class DummyRun(Protocol[Spec_contra]):
    """A run that means nothing, always the same: what trying, timing and warming up need.

    A part of its own, for those who use it have no request: they ask a family nothing else.
    """

    def axes(self, spec: Spec_contra, *, batch: int, tokens: int) -> dict[str, int]:
        """Sizes of the free axes of its graphs.

        Args:
            spec: the component's entry.
            batch: rows of one run.
            tokens: for axes whose length differs from request to request.
        """
        ...

    def rows(self, spec: Spec_contra) -> int:
        """Rows of one run with the manifest's defaults."""
        ...

    def inputs(self, spec: Spec_contra, role: str, axes: Mapping[str, int]) -> dict[str, Array]:
        """Inputs of one graph that mean nothing, always the same: for trying, timing, warming up.

        Args:
            spec: the component's entry.
            role: of the graph.
            axes: as `axes` returns them.

        Returns:
            Arrays by name, of the shapes and dtypes that the graph declares.
        """
        ...

    def start(self, spec: Spec_contra, *, tokens: int) -> Handoff:
        """Something that the component can start from.

        Args:
            spec: its entry.
            tokens: length of the context, where its graph leaves it open.
        """
        ...

    def options(self, spec: Spec_contra) -> FamilyOptions:
        """The options of the least work that shows whether a component works."""
        ...


class Family(FamilyTraits, Protocol[Spec_contra, Plan]):
    """One kind of component. `Plan` is a run decided: its options with every default filled in.

    A new family is a class with the traits as class attributes, these methods, and an attribute
    `dummy_run` that holds an object of its own module.
    """

    @property
    def dummy_run(self) -> DummyRun[Spec_contra]:
        """A run that means nothing."""
        ...

    def check(self, spec: Spec_contra, path: str) -> None:
        """Refuse choices of one component that contradict each other.

        Raises:
            ManifestError: naming the field under `path`.
        """
        ...

    def resolve(self, spec: Spec_contra, options: FamilyOptions | None) -> Plan:
        """The options with the manifest's defaults in the gaps; all of them when None.

        Raises:
            InvalidRequest: an option does not fit this component, or is of another family.
        """
        ...

    def vectors(self, spec: Spec_contra) -> VectorUse:
        """The named vectors that a component reads and makes; of most `NO_VECTORS`."""
        ...

    def with_own_picture(self, spec: Spec_contra, plan: Plan, low: tuple[int, int]) -> Plan:
        """The plan for a picture that is the caller's own: of any size, with words or without.

        Args:
            spec: the component's entry.
            plan: as `resolve` returned it.
            low: width and height of the picture that the component starts from.

        Raises:
            InvalidRequest: the component takes pictures of its declared size alone.
        """
        ...

    def with_size(self, spec: Spec_contra, plan: Plan, made: tuple[int, int]) -> Plan:
        """The plan for a picture of another size, by a component that starts from none.

        Args:
            spec: the component's entry.
            plan: as `resolve` returned it.
            made: width and height of the picture.

        Raises:
            InvalidRequest: the component makes pictures of its declared size alone.
        """
        ...

    def with_edit(self, spec: Spec_contra, plan: Plan, edit: StageEdit) -> Plan:
        """The plan for a picture that is made of the caller's own.

        Args:
            spec: the component's entry.
            plan: as `resolve`, `with_size` or `with_own_picture` returned it.
            edit: the own picture at the size that the component makes.

        Raises:
            InvalidRequest: the component can make none of it.
        """
        ...

    def why_no_negative(self, spec: Spec_contra, plan: Plan) -> str:
        """Why a component asks nothing without the words, so that none can take their place.

        Args:
            spec: the component's entry.
            plan: of the run.

        Returns:
            What follows its name in an error; empty where a negative prompt has an effect.
        """
        ...

    def settings(self, spec: Spec_contra, plan: Plan) -> Mapping[str, Any]:
        """What a plan comes to, as JSON values by the name of the option."""
        ...

    def warnings(self, spec: Spec_contra, plan: Plan) -> Sequence[PlanWarning]:
        """What a plan asks for at its own risk; mostly nothing."""
        ...

    def cost(self, spec: Spec_contra, plan: Plan) -> Cost:
        """What a run takes."""
        ...

    def precisions(self, spec: Spec_contra) -> Collection[Precision]:
        """What its graphs may be computed in; all of them where none changes what a picture is."""
        ...

    def start_check(self, spec: Spec_contra, read: ReadFile) -> StartCheck:
        """A check of what a component is to start from, made ready once.

        Args:
            spec: the component's entry.
            read: for files that the check needs, such as a tokenizer.
        """
        ...

    def open(
        self,
        spec: Spec_contra,
        position: int,
        engines: Mapping[str, Engine],
        read: ReadFile,
        computed: Backend | None,
    ) -> EngineStage:
        """A component at work.

        Args:
            spec: its entry.
            position: its place in the cascade: the noise's stage number.
            engines: what runs its graphs, by role; closed together with the stage.
            read: for its other files.
            computed: what the engines are, for the stage's result to say.

        Raises:
            ManifestError: a file is not what the manifest says.
        """
        ...

    def time_rows(self, spec: Spec_contra) -> tuple[str, ...]:
        """The names under which `StageFinished.seconds` says where its time went, in order."""
        ...

    def describe(self, spec: Spec_contra) -> list[str]:
        """What a reader of `cascade inspect` wants to know beside its graphs, line by line."""
        ...
