"""Which layers may compute in eight bits: what each alone costs, and how far one can go in all.

Layers are ranked by the error that quantising each alone makes in the prediction, for every
multiply-accumulate that it would move to integers. From the cheapest on they form a chain of
choices; the frontier is the picture's PSNR along it. Knows graphs and numbers; what a picture is,
the caller says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cascade.engines.ort import OrtEngine
from cascade.types import Array
from export.quantize.layers import Layer
from export.quantize.ranges import Observed
from export.quantize.static import LayerLevels, quantize

Cases = Sequence[Mapping[str, Array]]
# Denser at the begin: the first layers that are given back gain most, and each point paints
# pictures.
KEPT = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 34, 45, 60)
"""How many layers stay in float at the points of a frontier."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCost:
    """One layer's price and gain."""

    layer: Layer
    error: float
    """Mean squared error of the prediction with this layer alone in eight bits, over its mean
    square."""
    macs: float
    """Multiply-accumulates of one evaluation."""


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """One choice along the chain: layers in float, share of the work in integers, worst PSNR."""

    kept: int
    share: float
    picture_db: float


def measure_costs(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    levels: LayerLevels,
    seen: Mapping[str, Observed],
    cases: Cases,
) -> list[LayerCost]:
    """Every layer's cost, the one to give up first in front.

    Args:
        model: the float32 graph.
        layers: the candidates.
        levels: of every layer's input, and of its output where it is to have a pair.
        seen: what calibration saw of the layers' outputs, for their number.
        cases: what the error is measured on.
    """
    reference = predictions(model, cases)
    power = sum(float(np.square(r, dtype=np.float64).sum()) for r in reference)
    costs = []
    for layer in layers:
        alone = onnx.ModelProto()
        alone.CopyFrom(model)
        quantize(alone, [layer], levels)
        answers = predictions(alone, cases)
        wrong = sum(
            float(np.square(a - r, dtype=np.float64).sum())
            for a, r in zip(answers, reference, strict=True)
        )
        macs = seen[layer.name].outputs * layer.macs_per_output
        costs.append(LayerCost(layer=layer, error=wrong / power, macs=macs))
    # Error per work saved: a layer that is dear and small is given up before one that is dear and
    # large.
    return sorted(costs, key=lambda cost: -cost.error / cost.macs)


def predictions(model: onnx.ModelProto, cases: Cases) -> list[Array]:
    """The graph's answers."""
    engine = OrtEngine(model.SerializeToString())
    name = model.graph.output[0].name
    answers = [engine.run(case)[name] for case in cases]
    engine.close()
    return answers


def choose_layers(
    costs: Sequence[LayerCost], picture_db: Callable[[Sequence[Layer]], float], floor_db: float
) -> tuple[list[Layer], list[FrontierPoint]]:
    """The most layers whose pictures reach a floor, and the frontier up to there.

    Args:
        costs: from `measure_costs`.
        picture_db: worst PSNR of the pictures with these layers in eight bits; may judge by a few
            pictures as long as those are below the floor.
        floor_db: what it must reach.

    Returns:
        The chosen layers (none when no point reaches the floor) and the points that were tried.
    """
    total = sum(cost.macs for cost in costs)
    frontier: list[FrontierPoint] = []
    for kept in KEPT:
        if kept >= len(costs):
            break
        taken = costs[kept:]
        reached = picture_db([cost.layer for cost in taken])
        share = sum(cost.macs for cost in taken) / total
        frontier.append(FrontierPoint(kept, share, reached))
        # The first that reaches it is taken: along the chain every later point has less work in
        # integers.
        if reached >= floor_db:
            return [cost.layer for cost in taken], frontier
    return [], frontier
