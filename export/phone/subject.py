"""What is exported for a phone: one graph of a component as a network with fixed shapes, and cases.

Knows bundles, families and networks; no converter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cascade.bundle.bundle import Bundle
from cascade.diffusion.spec import DiffusionSpec
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, UnsupportedModel
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import NET, TensorSpec
from cascade.pixels.spec import HEADS, PASS, PixelSpec
from cascade.precision import Precision
from cascade.text.spec import TextEncoderSpec
from cascade.types import Array
from cascade.weights.source import whole_graph
from export.phone.cases import cases_of
from export.phone.spelling import Positional, phone_spelling
from export.weights.released_encoder import released_encoder
from export.weights.released_pixels import released_pixels
from export.weights.released_weights import released_network
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.exact import frozen
from stages.pixel_presets import PIXEL_PRESETS
from stages.reference import PRESETS

BATCH = 1
"""Rows of a run on a phone: guidance by two questions is two runs of the same file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
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
) -> list[Subject]:
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
    found: list[Subject] = []
    for spec in components:
        if spec.name in wanted:
            networks = networks_or_none(bundle, spec, needs_networks=needs_networks)
            found += subjects_in(bundle, spec, length, networks)
    return found


def on_device(components: Sequence[ComponentSpec]) -> list[str]:
    """Names of the components that a device usually runs."""
    first = [spec.name for spec in components if isinstance(spec, DiffusionSpec)][:1]
    return [
        spec.name
        for spec in components
        if isinstance(spec, TextEncoderSpec | PixelSpec) or spec.name in first
    ]


def checked_tokens(components: Sequence[ComponentSpec], tokens: int | None) -> int:
    """The length that prompts are filled to.

    Raises:
        InvalidRequest: it is not between 2 and the longest prompt that the bundle takes.
    """
    longest = max(
        (spec.max_tokens for spec in components if isinstance(spec, TextEncoderSpec)), default=2
    )
    if tokens is None:
        return longest
    if not 2 <= tokens <= longest:
        raise InvalidRequest(f"tokens: expected 2 to {longest}, got {tokens}", field="tokens")
    return tokens


def subjects_in(
    bundle: Bundle, spec: ComponentSpec, tokens: int, networks: Mapping[str, nn.Module]
) -> list[Subject]:
    """The graphs of one component, by role in a fixed order."""
    axes = family_of(spec).dummy_run.axes(spec, batch=BATCH, tokens=tokens)
    return [
        Subject(
            component=spec.name,
            role=role,
            graph=whole_graph(bundle.read_graph(graph, Precision.FP32)),
            network=networks.get(role),
            axes=axes,
            inputs=fixed(graph.inputs, axes),
            outputs=fixed(graph.outputs, axes),
            cases=cases_of(bundle, spec, role, axes),
            exact=graph.parity.tolerance_abs == 0,
        )
        for role, graph in sorted(spec.graphs.items(), reverse=True)
    ]


def networks_or_none(
    bundle: Bundle, spec: ComponentSpec, *, needs_networks: bool
) -> Mapping[str, nn.Module]:
    """A component's networks by role; none where they cannot be read back and need not be."""
    try:
        return networks_of(bundle, spec)
    except (UnsupportedModel, InvalidRequest):
        if needs_networks:
            raise
        return {}


def fixed(tensors: Sequence[TensorSpec], axes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """The same inputs or outputs with every axis a number."""
    return tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape_with(axes)) for t in tensors)


def networks_of(bundle: Bundle, spec: ComponentSpec) -> Mapping[str, nn.Module]:
    """A component's networks by role, read back from the bundle and proven to be its graphs'.

    Raises:
        UnsupportedModel: they are not of this software's own kinds.
        ParityError: what was read does not answer as the graphs do.
    """
    if isinstance(spec, TextEncoderSpec):
        return {NET: released_encoder(bundle, spec)}
    # Weights are read from the form that keeps blocks whole.
    if isinstance(spec, DiffusionSpec) and spec.name in PRESETS and spec.graphs[NET].gpu_forms:
        return {NET: released_network(bundle, PRESETS[spec.name])}
    if isinstance(spec, PixelSpec) and spec.name in PIXEL_PRESETS:
        network = frozen(released_pixels(bundle, PIXEL_PRESETS[spec.name]))
        return {PASS: network.body, HEADS: network.heads}
    raise UnsupportedModel(
        f"{spec.name}: its network is not one of this software's own, and no weights can be read "
        "back into torch; export the network that it came from with its framework's own converter",
        field=spec.name,
    )


def example_of(subject: Subject) -> tuple[Tensor, ...]:
    """A case of a subject as tensors in the order of its inputs, of its fixed shapes."""
    case = subject.cases[0]
    return tuple(torch.from_numpy(case[tensor.name].copy()) for tensor in subject.inputs)


def phone_network(subject: Subject) -> nn.Module:
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
