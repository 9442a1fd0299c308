"""What an export takes of this machine's memory, known before it begins.

Weights are counted, and activations traced with tensors that have shapes and no numbers. How many
copies of both an export holds at its peak was measured (`benchmarks.foreign_speed`). Knows
descriptions and sizes; not how a component is exported.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cascade.errors import UnsupportedModel
from cascade.graph_spec import TensorSpec
from cascade.precision import FROM_FILES
from cascade.system.memory_limits import Memory
from export.components import autoencoder, text_encoder
from export.components.component import ExportOptions, is_streamed
from export.components.synthetic_cases import stage_inputs
from export.description import (
    AutoencoderDescription,
    CascadeDescription,
    PixelStageDescription,
    StageDescription,
)

ROWS = 2
"""Of a batch that parity is measured on."""
TOKENS = 77
"""Of a prompt whose length is free."""

COPIES = 17.5
"""Of the weights of the component in hand: traced, optimised and stored graphs, their bytes, and
engines over them."""
COPIES_STREAMED = 2.0
"""Of weights that are written beside the graph as they are traced."""
COPIES_OF_FORMS = 2.0
"""More for forms for GPUs, for int8, or for blocks."""
KEPT = 2.0
"""Of the weights of each component before it: its file and its engine."""
RUNS = 2.0
"""Of the activations: an engine keeps what it ran in, while torch runs the same."""
OF_LIBRARIES = 300 << 20
"""Bytes: torch's exporter and ONNX Runtime, loaded on the way."""

UNTRACED = (16 << 20, 256 << 10)
"""Bytes of weights and of inputs below both of which a network is not traced: what it takes is
within `OF_LIBRARIES`."""

MARGIN = 1.3
"""Needs over what is free by which an export is refused: an estimate is no measurement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportMemory:
    """Bytes that an export takes beyond what the process holds when it begins."""

    total: int
    """At its peak."""
    component: str
    """Where that is."""
    weights: int
    """Of that component, in float32."""
    activations: int
    """Of one run of its network on two rows, at the most; 0 where they were not traced."""

    def __str__(self) -> str:
        """For the person who waits."""
        return (
            f"about {self.total / 1e9:.2f} GB at {self.component}: weights "
            f"{self.weights / 1e9:.2f} GB, activations {self.activations / 1e9:.2f} GB"
        )


@dataclass(frozen=True, slots=True)
class ComponentSizes:
    """One component's part of the estimate."""

    name: str
    weights: int
    activations: int
    copies: float


def estimate_memory(description: CascadeDescription, options: ExportOptions) -> ExportMemory:
    """What the export of a cascade takes.

    Args:
        description: its networks are not run.
        options: forms and precisions take more.
    """
    kept, peak = 0.0, ExportMemory(total=0, component="", weights=0, activations=0)
    for sizes in component_sizes(description, options):
        total = OF_LIBRARIES + kept + sizes.copies * sizes.weights + RUNS * sizes.activations
        if total > peak.total:
            peak = ExportMemory(
                total=int(total),
                component=sizes.name,
                weights=sizes.weights,
                activations=sizes.activations,
            )
        kept += KEPT * sizes.weights
    return peak


def component_sizes(
    description: CascadeDescription, options: ExportOptions
) -> Sequence[ComponentSizes]:
    """Every component in the order of the work."""
    more = COPIES_OF_FORMS * bool(options.gpu_forms)
    found = []
    words = description.text_encoder
    if words is not None:
        source = text_encoder.network_source(words, ())
        streamed = is_streamed(options, source)
        copies = COPIES_STREAMED if streamed else COPIES + more
        inputs = with_sizes(source.inputs, {"tokens": words.max_tokens})
        found.append(sizes_of(source.name, words.network, inputs, copies))
    for stage in description.stages:
        if isinstance(stage, PixelStageDescription):
            both = nn.ModuleList([stage.body, stage.heads])
            found.append(sizes_of(stage.name, both, (), COPIES + more))
            continue
        if isinstance(stage, AutoencoderDescription):
            inputs = with_sizes(autoencoder.network_source(stage).inputs, {})
            found.append(sizes_of(stage.name, stage.network, inputs, COPIES + more))
            continue
        quantised = COPIES_OF_FORMS * bool(options.precisions & FROM_FILES)
        inputs = with_sizes(stage_inputs(stage, encoder_of(description)), free_sides(stage))
        found.append(sizes_of(stage.name, stage.network, inputs, COPIES + more + quantised))
    return found


def encoder_of(description: CascadeDescription) -> Any:
    """The encoder whose context the stages read, if there is one."""
    return description.encoder if description.reads_context else None


def free_sides(stage: StageDescription) -> dict[str, int]:
    """Sizes of a stage's axes that are free in its graph."""
    side = stage.output_resolution
    return {"height": side, "width": side, "tokens": TOKENS}


def with_sizes(inputs: Sequence[TensorSpec], sizes: dict[str, int]) -> tuple[TensorSpec, ...]:
    """Inputs whose every axis has a size."""
    known = {"batch": ROWS, **sizes}
    return tuple(
        TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape_with(known))
        for spec in inputs
    )


def sizes_of(
    name: str, network: nn.Module, inputs: Sequence[TensorSpec], copies: float
) -> ComponentSizes:
    """Weights and activations of a network; of weights alone without inputs, or of small ones."""
    weights = 4 * sum(tensor.numel() for tensor in network.parameters())
    given = 4 * sum(prod(spec.shape_with({})) for spec in inputs)
    is_small = weights < UNTRACED[0] and given < UNTRACED[1]
    return ComponentSizes(
        name, weights, 0 if is_small else activation_bytes(network, inputs), copies
    )


class LiveBytes(TorchDispatchMode):
    """Counts bytes of tensors that a run makes and has not dropped yet, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and note what it made."""
        del types
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return made

    def add(self, tensor: torch.Tensor) -> None:
        """Note a tensor, once for all views of it."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.drop, size)

    def drop(self, size: int) -> None:
        """A storage of that size is gone."""
        self.live -= size


def activation_bytes(network: nn.Module, inputs: Sequence[TensorSpec]) -> int:
    """Bytes of one run's inputs and intermediate tensors at their peak; 0 where none can be traced.

    Args:
        network: takes the inputs by name; its weights are not counted.
        inputs: names, dtypes and whole shapes.
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), LiveBytes() as seen:
            given = {
                spec.name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype))  # type: ignore[arg-type]
                for spec in inputs
            }
            network(**given)
    except Exception:  # noqa: BLE001  whatever a user's network does with shapes alone: weights count
        return 0
    return seen.peak


def check_memory(needed: ExportMemory, here: Memory) -> None:
    """Refuse an export for which this machine has clearly too little.

    Args:
        needed: by the export.
        here: what the system says; 0 where it does not.

    Raises:
        UnsupportedModel: naming what is needed, what is free, and the remedy.
    """
    if here.available and needed.total > MARGIN * here.available:
        raise UnsupportedModel(
            f"memory: this export takes {needed}, and {here.available / 1e9:.2f} GB are free here: "
            "close other programs, leave --precisions and --gpu-forms out, or export on a machine "
            "with more memory",
            field="memory",
        )
