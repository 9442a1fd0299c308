"""What is exported for a phone: one graph of a component as a network with fixed shapes, and cases.

Knows bundles, families and networks; no converter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cascade.bundle.bundle import Bundle
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, ManifestError, UnsupportedModel
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import NET, TensorSpec
from cascade.precision import Precision
from cascade.text.family import text_encoder_of
from cascade.types import Array
from cascade.weights.source import whole_graph
from export.phone.kinds import KINDS
from export.phone.spelling import Positional, phone_spelling
from stages.evaluation.torch_engine import TorchEngine

BATCH = 1
"""Rows of a run on a phone: guidance by two questions is two runs of the same file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhoneGraph:
    """One graph on its way to a phone."""

    component: str
    role: str
    graph: bytes
    """The bundle's own, float32, with its weights inside."""
    network: nn.Module | None
    """As it was trained and released; None where it cannot be read back."""
    axes: Mapping[str, int]
    """Sizes of the graph's free axes."""
    inputs: tuple[TensorSpec, ...]
    """Every axis a number."""
    outputs: tuple[TensorSpec, ...]
    cases: Sequence[Mapping[str, Array]]
    """Inputs by name that the file is compared on."""
    exact: bool
    """Whether every bit of the answers has to be the network's."""

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        return self.component if self.role == NET else f"{self.component}.{self.role}"

    @property
    def tokens(self) -> int:
        """Of every text."""
        return self.axes.get("tokens", 1)

    @property
    def sides(self) -> dict[str, int]:
        """Height and width, where the graph leaves them free."""
        return {name: size for name, size in self.axes.items() if name in ("height", "width")}

    @property
    def original(self) -> Engine:
        """What every file is compared with: the network, or else the bundle's graph."""
        if self.network is None:
            return OrtEngine(self.graph)
        return TorchEngine(self.network, *[tensor.name for tensor in self.outputs])

    @property
    def compared_with(self) -> str:
        """`original` in words."""
        return "torch" if self.network is not None else "the bundle's graph"


def subjects_of(
    bundle: Bundle, names: Sequence[str], tokens: int | None, *, needs_networks: bool = True
) -> list[PhoneGraph]:
    """The graphs of components, in the order of the bundle.

    Args:
        bundle: opened.
        names: of components; empty for those that a device runs: text encoders, the first stage
            that draws, and every stage of pixels by groups.
        tokens: length that prompts are filled to; None for the longest that the bundle takes.
        needs_networks: whether the bundle's graphs alone would not do.

    Raises:
        InvalidRequest: a name is none of the bundle's, or `tokens` is out of range.
        UnsupportedModel: a component's network cannot be read back.
    """
    components = bundle.manifest.components
    known = [spec.name for spec in components]
    for name in names:
        if name not in known:
            raise InvalidRequest(
                f"components: expected {', '.join(known)}, got {name}", field="components"
            )
    wanted = list(names) or on_device(components)
    length = checked_tokens(components, tokens)
    found: list[PhoneGraph] = []
    for spec in components:
        if spec.name in wanted:
            networks = networks_or_none(bundle, spec, needs_networks=needs_networks)
            found += subjects_in(bundle, spec, length, networks)
    return found


def on_device(components: Sequence[ComponentSpec]) -> list[str]:
    """Names of the components that a device usually runs."""
    found: list[str] = []
    kinds_seen: set[type] = set()
    for spec in components:
        if type(spec) not in kinds_seen or not KINDS[type(spec)].first_alone:
            found.append(spec.name)
        kinds_seen.add(type(spec))
    return found


def checked_tokens(components: Sequence[ComponentSpec], tokens: int | None) -> int:
    """The length that prompts are filled to.

    Raises:
        InvalidRequest: it is not between 2 and the longest prompt that the bundle takes.
    """
    try:
        longest = text_encoder_of(components).max_tokens
    except ManifestError:
        longest = 2  # no words: nothing has the axis
    if tokens is None:
        return longest
    if not 2 <= tokens <= longest:
        raise InvalidRequest(f"tokens: expected 2 to {longest}, got {tokens}", field="tokens")
    return tokens


def subjects_in(
    bundle: Bundle, spec: ComponentSpec, tokens: int, networks: Mapping[str, nn.Module]
) -> list[PhoneGraph]:
    """The graphs of one component, by role in a fixed order."""
    axes = family_of(spec).dummy_run.axes(spec, batch=BATCH, tokens=tokens)
    return [
        PhoneGraph(
            component=spec.name,
            role=role,
            graph=whole_graph(bundle.read_graph(graph, Precision.FP32)),
            network=networks.get(role),
            axes=axes,
            inputs=fixed(graph.inputs, axes),
            outputs=fixed(graph.outputs, axes),
            cases=KINDS[type(spec)].cases(bundle, spec, role, axes),
            exact=graph.parity.tolerance_abs == 0,
        )
        for role, graph in sorted(spec.graphs.items(), reverse=True)
    ]


def networks_or_none(
    bundle: Bundle, spec: ComponentSpec, *, needs_networks: bool
) -> Mapping[str, nn.Module]:
    """A component's networks by role; none where they cannot be read back and need not be."""
    try:
        return KINDS[type(spec)].networks(bundle, spec)
    except (UnsupportedModel, InvalidRequest):
        if needs_networks:
            raise
        return {}


def fixed(tensors: Sequence[TensorSpec], axes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """The same inputs or outputs with every axis a number."""
    return tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape_with(axes)) for t in tensors)


def example_of(subject: PhoneGraph) -> tuple[Tensor, ...]:
    """A case of a subject as tensors in the order of its inputs, of its fixed shapes."""
    case = subject.cases[0]
    return tuple(torch.from_numpy(case[tensor.name].copy()) for tensor in subject.inputs)


def phone_network(subject: PhoneGraph) -> nn.Module:
    """A subject's network as converters bear it: inputs in order, answers as a tuple.

    Raises:
        UnsupportedModel: it could not be read back.
    """
    if subject.network is None:
        raise UnsupportedModel(
            f"{subject.name}: this target converts networks, and none can be read back from the "
            "bundle",
            field=subject.component,
        )
    names = [tensor.name for tensor in subject.inputs]
    return Positional(phone_spelling(subject.network), names).eval()
