"""The int8 graph of a stage: calibrated, its layers chosen, written, judged by its pictures.

Elsewhere: static post-training quantization (PTQ) in QDQ form, with mixed precision by a
sensitivity analysis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.request import Handoff
from cascade.types import ImageU8
from cascade.weights.source import GraphSource
from export.quantize.calibration import observe
from export.quantize.layers import Layer, find_layers
from export.quantize.ranges import (
    ActivationKind,
    Observed,
    Quantization,
    RangeMethod,
    choose_range,
)
from export.quantize.sampled_runs import SampledRuns, StageBlueprint, sample_images
from export.quantize.sensitivity import choose_layers, measure_costs
from export.quantize.static import Counts, LayerLevels, quantize
from export.quantize.trajectories import trajectory_cases
from export.weights.exact_storage import store_exactly
from stages.evaluation.metrics import psnr_db

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeOptions:
    """How a stage is quantised; the defaults are what was measured best (decision 10)."""

    floor_db: float
    """Worst PSNR of the stage's picture against the float32 graph's."""
    kinds: tuple[str, ...] = ("Conv",)
    """Node types that may compute in eight bits."""
    activations: ActivationKind = "uint8"
    method: RangeMethod = "percentile"
    outputs: bool = True
    """Whether convolutions give eight bits, which ONNX Runtime's integer kernels need."""
    calibration: int = 96
    """Evaluations that ranges are drawn from."""
    ranking: int = 4
    """Evaluations that a layer's error is measured on."""
    search_pictures: int = 4
    """Pictures that a point of the frontier is measured on; all of the proof once those pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationInputs:
    """What an int8 variant is made from."""

    runs: SampledRuns
    """Of the float32 graph as it is stored."""
    model: onnx.ModelProto
    """The float32 graph, weights as float32 initialisers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Graph:
    """The result: the file, its worst picture, and how it was chosen."""

    graph: bytes
    picture_db: float
    counts: Counts
    share: float
    """Share of the layers' multiply-accumulates that is in eight bits."""


def make_int8(inputs: QuantizationInputs, options: QuantizeOptions, report: Report) -> Int8Graph:
    """Quantise one stage.

    Args:
        inputs: the stage's float32 graph and runs of it.
        options: how far, and by which means.
        report: called with a line about every choice of layers that was tried.

    Raises:
        ParityError: no choice of layers that was tried reaches `options.floor_db`.
    """
    runs, model = inputs.runs, inputs.model
    blueprint, starts = runs.blueprint, runs.starts
    engine = OrtEngine(model.SerializeToString())
    cases = trajectory_cases(blueprint, engine, starts.calibration, limit=options.calibration)
    engine.close()
    layers = [layer for layer in find_layers(model) if layer.kind in options.kinds]
    seen = observe(model, layers, cases)
    plan = QuantizationPlan(model, choose_levels(layers, seen, options))
    # Evenly over the trajectory: layers differ most between its noisy begin and its clean end.
    spread = np.linspace(0, len(cases) - 1, min(options.ranking, len(cases))).round().astype(int)
    costs = measure_costs(model, layers, plan.levels, seen, [cases[i] for i in spread])

    def picture_db(chosen: Sequence[Layer]) -> float:
        graph, _ = plan.write(chosen)
        few = options.search_pictures
        reached = worst_picture(blueprint, graph, starts.proof[:few], runs.proof_images[:few])
        # A few pictures are enough to refuse; all are painted only where the few pass.
        if reached < options.floor_db:
            return reached
        return worst_picture(blueprint, graph, starts.proof, runs.proof_images)

    chosen, frontier = choose_layers(costs, picture_db, options.floor_db)
    for point in frontier:
        report(
            f"    {point.kept:3} layers in float, {point.share:6.1%} of the work in int8: "
            f"{point.picture_db:.1f} dB"
        )
    if not chosen:
        best = max(point.picture_db for point in frontier)
        raise ParityError(
            f"{blueprint.spec.name}: int8 reaches {best:.1f} dB at most, the floor is "
            f"{options.floor_db:.1f}"
        )
    graph, counts = plan.write(chosen)
    return Int8Graph(
        graph=graph,
        picture_db=round(frontier[-1].picture_db, 2),
        counts=counts,
        share=frontier[-1].share,
    )


@dataclass(frozen=True, slots=True)
class QuantizationPlan:
    """A float32 graph with the levels of all its activations, ready for any choice of layers."""

    model: onnx.ModelProto
    levels: LayerLevels

    def write(self, layers: Sequence[Layer]) -> tuple[bytes, Counts]:
        """The graph with these layers in eight bits, the other weights stored exactly."""
        copy = onnx.ModelProto()
        # The float32 graph is written once per point of the frontier and must stay as it is.
        copy.CopyFrom(self.model)
        counts = quantize(copy, layers, self.levels)
        store_exactly(copy)
        return copy.SerializeToString(), counts


def choose_levels(
    layers: Sequence[Layer], seen: Mapping[str, Observed], options: QuantizeOptions
) -> LayerLevels:
    """Levels of every layer's input, and of its output where that gets a pair."""

    def chosen(name: str) -> Quantization:
        return choose_range(seen[name], options.activations, options.method)

    outputs = {la.name: chosen(la.name) for la in layers} if options.outputs else {}
    return LayerLevels({la.activation: chosen(la.activation) for la in layers}, outputs)


def worst_picture(
    blueprint: StageBlueprint,
    graph: GraphSource,
    starts: Sequence[Handoff],
    images: Sequence[ImageU8],
) -> float:
    """Lowest PSNR of a graph's pictures against the given ones, decibels.

    Args:
        blueprint: opens the stage over the graph.
        graph: an ONNX file with all its weights in it, or beside it.
        starts: where the runs begin.
        images: `[H, W, 3]` uint8 of every start.
    """
    engine = OrtEngine(graph)
    found = sample_images(blueprint, engine, starts)
    engine.close()
    return min(psnr_db(a, b) for a, b in zip(found, images, strict=True))
