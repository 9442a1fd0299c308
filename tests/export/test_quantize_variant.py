"""The int8 variant of a stage: chosen by what it costs, proven by its pictures, or refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from cascade.codecs.shared_initializers import attach_initializers
from cascade.engines.ort import OrtEngine
from cascade.errors import ManifestError, ParityError
from cascade.precision import Precision
from export.adapters.reference_cases import true_starts
from export.components.component import ExportOptions
from export.description import RunStarts
from export.quantize.calibration import observe
from export.quantize.layers import Layer, find_layers
from export.quantize.ranges import choose_range
from export.quantize.sampled_runs import SampledRuns, StageBlueprint, sample_images
from export.quantize.sensitivity import LayerCost, choose_layers, measure_costs
from export.quantize.shared_weights import strip_initializers
from export.quantize.static import LayerLevels
from export.quantize.trajectories import CROP, cropped, trajectory_cases
from export.quantize.variant import (
    QuantizationInputs,
    QuantizeOptions,
    make_int8,
    worst_picture,
)
from tests.export.conftest import OneStage
from tests.export.small_graphs import CHANNELS, random, two_readers
from tests.support.tiny_training import SELF_BASE, TINY_SR, tiny_dataset


def test_the_variant_is_in_the_manifest(one_stage: OneStage) -> None:
    """Precision, file, parity and the worst picture; the file has integer weights."""
    stage, _ = one_stage
    graph = stage.spec.graph
    (variant,) = graph.variants
    assert (variant.precision, variant.file) == (Precision.INT8, "base.int8.onnx")
    assert graph.file_for(Precision.INT8) == variant.file
    assert variant.quality.value >= 30
    assert 0 < variant.parity.max_abs_error <= variant.parity.tolerance_abs
    nodes = [n.op_type for n in onnx.load_from_string(stage.files[variant.file]).graph.node]
    assert "QuantizeLinear" in nodes


def test_shared_weights_come_back(one_stage: OneStage) -> None:
    """What both files hold is stored once, and the completed file is the graph that was made."""
    lender = onnx.load_from_string(one_stage[0].files["base.onnx"])
    whole = onnx.load_from_string(complete(one_stage))
    before = OrtEngine(whole.SerializeToString(), threads=1)
    case = {
        "x_t": random(1, 3, 32, 32),
        "t": np.array([0.4], np.float32),
        "context": random(1, 3, 12),
        "context_mask": np.ones((1, 3), np.float32),
    }
    reference = before.run(case)["prediction"]
    saved = strip_initializers(whole, lender)
    assert saved > 1000
    thin = whole.SerializeToString()
    again = attach_initializers(thin, one_stage[0].files["base.onnx"], "thin")
    assert len(again) > len(thin) + saved
    answer = OrtEngine(again, threads=1).run(case)["prediction"]
    np.testing.assert_array_equal(answer, reference)
    with pytest.raises(ManifestError, match="neither in it nor in the file"):
        attach_initializers(thin, b"", "thin")


def complete(one_stage: OneStage) -> bytes:
    """The int8 file of the tiny stage with its borrowed weights."""
    files = one_stage[0].files
    return attach_initializers(files["base.int8.onnx"], files["base.onnx"], "base.int8.onnx")


def test_the_stated_picture_is_what_one_measures(one_stage: OneStage) -> None:
    """Painting the proof's runs again with the two files gives the PSNR of the manifest."""
    stage, _ = one_stage
    runs = stage.runs
    assert runs is not None
    graph = complete(one_stage)
    found = worst_picture(runs.blueprint, graph, runs.starts.proof, runs.proof_images)
    assert found == pytest.approx(stage.spec.graph.variants[0].quality.value, abs=0.01)


def inputs_of(one_stage: OneStage) -> QuantizationInputs:
    """The float32 graph of the tiny stage with two runs for each purpose."""
    stage, _ = one_stage
    calibration, proof = (
        tuple(true_starts(SELF_BASE, tiny_dataset(), 2, offset=offset)) for offset in (0.0, 0.5)
    )
    blueprint = StageBlueprint(stage.spec, 1)
    engine = OrtEngine(stage.files["base.onnx"], threads=1)
    runs = SampledRuns(
        blueprint=blueprint,
        engine=engine,
        starts=RunStarts(calibration, proof),
        proof_images=tuple(sample_images(blueprint, engine, proof)),
        described=True,
    )
    return QuantizationInputs(runs=runs, model=unstored(stage.files["base.onnx"]))


def unstored(graph: bytes) -> onnx.ModelProto:
    """The graph with its stored weights widened into initialisers again."""
    model = onnx.load_from_string(graph)
    halves = {n.output[0]: n for n in model.graph.node if n.op_type == "Cast"}
    stored = {t.name: t for t in model.graph.initializer}
    for name, node in halves.items():
        if node.input[0] in stored:
            value = onnx.numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
            model.graph.node.remove(node)
    return model


def test_a_floor_out_of_reach_is_refused(one_stage: OneStage) -> None:
    """No choice of layers gives identical pictures: nothing is written."""
    options = QuantizeOptions(floor_db=200.0, calibration=4, ranking=1, search_pictures=1)
    with pytest.raises(ParityError, match=r"base: int8 reaches .* at most, the floor is 200\.0"):
        make_int8(inputs_of(one_stage), options, [].append)


def layer(name: str) -> Layer:
    """A layer of that name."""
    return Layer(
        name=name,
        label=name,
        kind="Conv",
        activation=f"{name}_in",
        weight=name,
        bias=None,
        channel_axis=0,
        channels=1,
        macs_per_output=1.0,
    )


def test_layers_are_given_up_until_the_floor_holds() -> None:
    """The costliest go first; the frontier says what every point reached."""
    costs = [LayerCost(layer=layer(f"l{n}"), error=10.0 - n, macs=1.0) for n in range(8)]
    asked: list[int] = []

    def picture_db(chosen: Sequence[Layer]) -> float:
        asked.append(len(chosen))
        return 40.0 - 2 * len(chosen)

    chosen, frontier = choose_layers(costs, picture_db, 30.0)
    assert [la.name for la in chosen] == ["l3", "l4", "l5", "l6", "l7"]
    assert asked == [8, 7, 6, 5]
    assert [(p.kept, p.share, p.picture_db) for p in frontier] == [
        (0, 1.0, 24.0),
        (1, 7 / 8, 26.0),
        (2, 6 / 8, 28.0),
        (3, 5 / 8, 30.0),
    ]
    assert choose_layers(costs, lambda _: 0.0, 30.0)[0] == []


def test_the_layer_that_costs_most_comes_first() -> None:
    """A layer whose input has one enormous value loses all the others to rounding."""
    model = two_readers()
    cases = [{"x": random(2, CHANNELS, 5, 5, seed=s)} for s in range(2)]
    layers = find_layers(model)
    seen = observe(model, layers, cases)
    levels = {la.activation: choose_range(seen[la.activation], "uint8", "min_max") for la in layers}
    seen["sum"].high = 1e4
    levels["sum"] = choose_range(seen["sum"], "uint8", "min_max")
    costs = measure_costs(model, layers, LayerLevels(levels), seen, cases)
    assert costs[0].layer.label == "wc"
    assert costs[0].error > 100 * max(cost.error for cost in costs[1:])
    assert {cost.layer.label: cost.macs for cost in costs} == {
        "wa": 4 * 8 * 25 * CHANNELS,
        "wb": 4 * 8 * 25 * CHANNELS,
        "wc": 4 * 4 * 25 * 8,
    }


def test_calibration_sees_every_time_and_both_halves_of_guidance(one_stage: OneStage) -> None:
    """One run of 20 guided steps: 20 evaluations of two rows, one with every token masked out."""
    exported, _ = one_stage
    guided = replace(exported.spec.guidance, weight=2.0)
    stage = StageBlueprint(replace(exported.spec, steps=20, guidance=guided), 1)
    engine = OrtEngine(exported.files["base.onnx"], threads=1)
    starts = true_starts(SELF_BASE, tiny_dataset(), 1, offset=0.0)
    cases = trajectory_cases(stage, engine, starts, limit=100)
    assert len(cases) == 20
    times = [float(case["t"][0]) for case in cases]
    assert times == sorted(times, reverse=True)
    assert max(times) > 0.9
    assert min(times) < 0.1
    assert all(case["context_mask"].sum(axis=1)[1] == 0 for case in cases)
    few = trajectory_cases(stage, engine, starts, limit=5)
    assert [float(c["t"][0]) for c in few] == [times[i] for i in (0, 5, 10, 14, 19)]


def test_large_pictures_are_cut() -> None:
    """Every image of a case at the same place; what is no image stays."""
    image = random(1, 3, 1024, 1024)
    case = {"x_t": image, "low_res": 2 * image, "t": np.array([0.5], np.float32)}
    cut = cropped(case, 3)
    assert cut["x_t"].shape == (1, 3, CROP, CROP)
    np.testing.assert_array_equal(cut["low_res"], 2 * cut["x_t"])
    assert cut["t"] is case["t"]
    small = {"x_t": image[..., :64, :64]}
    assert cropped(small, 0) is small


def test_calibration_and_proof_share_no_start() -> None:
    """Other concepts, and for super-resolution the small picture of each."""
    data: Any = tiny_dataset()
    one = true_starts(TINY_SR, data, 3, offset=0.0)
    two = true_starts(TINY_SR, data, 3, offset=0.5)
    assert all(start.image is not None and start.image.shape == (8, 8, 3) for start in one + two)
    assert not any(
        np.array_equal(a.image, b.image)  # type: ignore[arg-type]
        for a in one
        for b in two
    )


def test_precisions_nobody_writes_are_refused() -> None:
    """fp16 is what engines compute from the float32 file, not a file."""
    with pytest.raises(ValueError, match="no file is written for fp16"):
        ExportOptions(precisions=frozenset({Precision.FP16}))
