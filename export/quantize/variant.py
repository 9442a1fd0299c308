"""The int8 variant of a stage: calibrated, chosen, written and proven against its float32 graph.

Puts this package in order for one stage. Knows a stage's specification, its float32 graph and where
runs start; not checkpoints nor where the files go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cascade.diffusion.spec import DiffusionSpec
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.request import GenerateRequest, Handoff
from cascade.types import ImageU8
from export.quantize.calibration import observe
from export.quantize.layers import Layer, find_layers
from export.quantize.ranges import (
    ActivationKind,
    Observed,
    Quantization,
    RangeMethod,
    choose_range,
)
from export.quantize.sensitivity import choose_layers, measure_costs
from export.quantize.static import Counts, LayerLevels, quantize
from export.quantize.trajectories import Seat, reference_seat, trajectory_cases
from export.weights.exact_storage import store_exactly
from stages.evaluation.metrics import psnr_db
from stages.evaluation.sampling import run_stage

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
class Material:
    """What an int8 variant is made from."""

    spec: DiffusionSpec
    model: onnx.ModelProto
    """The float32 graph, weights as float32 initialisers."""
    calibration: Sequence[Handoff]
    proof: Sequence[Handoff]
    """Starts that share nothing with those of the calibration."""
    pictures: Sequence[ImageU8]
    """What the float32 graph paints from those."""
    seat: Seat | None = None
    """Of the stage; None for one of the reference cascade."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Graph:
    """The result: the file, its worst picture, and how it was chosen."""

    graph: bytes
    picture_db: float
    counts: Counts
    share: float
    """Share of the layers' multiply-accumulates that is in eight bits."""


def make_int8(material: Material, options: QuantizeOptions, report: Report) -> Int8Graph:
    """Quantise one stage.

    Raises:
        ParityError: no choice of layers that was tried reaches `options.floor_db`.
    """
    spec, model = material.spec, material.model
    engine = OrtEngine(model.SerializeToString())
    cases = trajectory_cases(
        spec, engine, material.calibration, limit=options.calibration, seat=material.seat
    )
    engine.close()
    layers = [layer for layer in find_layers(model) if layer.kind in options.kinds]
    seen = observe(model, layers, cases)
    plan = Plan(model, choose_levels(layers, seen, options))
    spread = np.linspace(0, len(cases) - 1, min(options.ranking, len(cases))).round().astype(int)
    costs = measure_costs(model, layers, plan.levels, seen, [cases[i] for i in spread])

    def picture_db(chosen: Sequence[Layer]) -> float:
        graph, _ = plan.write(chosen)
        few = options.search_pictures
        seat, proof, pictures = material.seat, material.proof, material.pictures
        reached = worst_picture(spec, graph, proof[:few], pictures[:few], seat)
        if reached < options.floor_db:
            return reached
        return worst_picture(spec, graph, proof, pictures, seat)

    chosen, frontier = choose_layers(costs, picture_db, options.floor_db)
    for point in frontier:
        report(
            f"    {point.kept:3} layers in float, {point.share:6.1%} of the work in int8: "
            f"{point.picture_db:.1f} dB"
        )
    if not chosen:
        best = max(point.picture_db for point in frontier)
        raise ParityError(
            f"{spec.name}: int8 reaches {best:.1f} dB at most, the floor is {options.floor_db:.1f}"
        )
    graph, counts = plan.write(chosen)
    return Int8Graph(
        graph=graph,
        picture_db=round(frontier[-1].picture_db, 2),
        counts=counts,
        share=frontier[-1].share,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """A float32 graph with the levels of all its activations, ready for any choice of layers."""

    model: onnx.ModelProto
    levels: LayerLevels

    def write(self, layers: Sequence[Layer]) -> tuple[bytes, Counts]:
        """The graph with these layers in eight bits, the other weights stored exactly."""
        copy = onnx.ModelProto()
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


def paint(
    spec: DiffusionSpec, engine: Engine, starts: Sequence[Handoff], seat: Seat | None = None
) -> list[ImageU8]:
    """The stage's picture from every start, one seed each."""
    stage = (seat or reference_seat(spec)).stage(spec, engine)
    return [run_stage(stage, GenerateRequest(seed=n), start) for n, start in enumerate(starts)]


def worst_picture(
    spec: DiffusionSpec,
    graph: bytes,
    starts: Sequence[Handoff],
    pictures: Sequence[ImageU8],
    seat: Seat | None = None,
) -> float:
    """Lowest PSNR of a graph's pictures against the given ones, decibels."""
    engine = OrtEngine(graph)
    painted = paint(spec, engine, starts, seat)
    engine.close()
    return min(psnr_db(a, b) for a, b in zip(painted, pictures, strict=True))
