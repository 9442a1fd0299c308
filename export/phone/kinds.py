"""Kinds of components as far as an export for phones has to know them: a literal table.

What differs between text encoders, diffusion stages and stages of pixels by groups: how their
networks are read back, what they are compared on, and which of them a device runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cascade.bundle.bundle import Bundle
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import UnsupportedModel
from cascade.graph_spec import NET
from cascade.pixels.spec import HEADS, PASS, PixelSpec
from cascade.text.spec import TextEncoderSpec
from export.phone.cases import Case, pixel_cases, stage_cases, text_cases
from export.weights.released_encoder import released_encoder
from export.weights.released_pixels import released_pixels
from export.weights.released_weights import released_network
from stages.networks.exact import frozen
from stages.pixel_presets import PIXEL_PRESETS
from stages.reference import PRESETS


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentKind:
    """What is known of one kind."""

    networks: Callable[[Bundle, Any], Mapping[str, nn.Module]]
    """Networks by role; raises `UnsupportedModel` where none can be read back."""
    cases: Callable[[Bundle, Any, str, Mapping[str, int]], Sequence[Case]]
    """Of a bundle, an entry, a role and the sizes of the free axes."""
    first_alone: bool = False
    """Whether a device runs the first component of this kind alone."""


def encoder_networks(bundle: Bundle, spec: TextEncoderSpec) -> Mapping[str, nn.Module]:
    """The text encoder."""
    return {NET: released_encoder(bundle, spec)}


def stage_networks(bundle: Bundle, spec: DiffusionSpec) -> Mapping[str, nn.Module]:
    """A diffusion stage's network, whose weights are read from the form that keeps blocks whole.

    Raises:
        UnsupportedModel: it is not of this software's own kind, or has no such form.
    """
    if spec.name not in PRESETS or not spec.graphs[NET].gpu_forms:
        raise not_ours(spec.name)
    return {NET: released_network(bundle, PRESETS[spec.name])}


def pixel_networks(bundle: Bundle, spec: PixelSpec) -> Mapping[str, nn.Module]:
    """Body and heads, frozen.

    Raises:
        UnsupportedModel: they are not of this software's own kind.
    """
    if spec.name not in PIXEL_PRESETS:
        raise not_ours(spec.name)
    network = frozen(released_pixels(bundle, PIXEL_PRESETS[spec.name]))
    return {PASS: network.body, HEADS: network.heads}


def not_ours(name: str) -> UnsupportedModel:
    """The error for networks that nothing here can read back."""
    return UnsupportedModel(
        f"{name}: its network is not one of this software's own, and no weights can be read back "
        "into torch; take --target ort, which converts the bundle's graph, or export the network "
        "that it came from with its framework's own converter",
        field=name,
    )


KINDS: Mapping[type, ComponentKind] = {
    TextEncoderSpec: ComponentKind(networks=encoder_networks, cases=text_cases),
    DiffusionSpec: ComponentKind(networks=stage_networks, cases=stage_cases, first_alone=True),
    PixelSpec: ComponentKind(networks=pixel_networks, cases=pixel_cases),
}
"""By the record of the component in the manifest."""
