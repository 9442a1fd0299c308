"""Half precision by ONNX's definitions: what must stay float32 does, in every operator."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from cascade.engines.ort import OrtEngine
from cascade.precision import Precision
from export.gpu_variant.element_types import TYPES, allowed, narrow_inputs
from export.gpu_variant.half import halve

OPSET = 23
KERNEL = [1, 1, 1, 1]


def between(kind: str, extra: list[Any], outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    """An operator between two convolutions, its other inputs constants."""
    rng = np.random.default_rng(0)
    constants = {f"c{i}": np.asarray(v) for i, v in enumerate(extra) if v is not None}
    names = ["" if v is None else f"c{i}" for i, v in enumerate(extra)]
    for name in ("w", "v"):
        constants[name] = rng.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=KERNEL),
        helper.make_node(kind, ["h", *names], [f"m{i}" for i in range(outputs)], **attributes),
    ]
    source = "m0"
    if outputs > 1:
        # The second output is read too: whole numbers that are no narrow floats.
        nodes.append(helper.make_node("Cast", ["m1"], ["places"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Add", ["m0", "places"], ["sum"]))
        source = "sum"
    nodes.append(helper.make_node("Conv", [source, "v"], ["y"], pads=KERNEL))
    graph = helper.make_graph(
        nodes,
        "between",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 11
    onnx.checker.check_model(model)
    return model


F, L = np.float32, np.int64
CASES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "resize_scales": ("Resize", [None, np.array([1, 1, 2, 2], F)], {}),
    "resize_sizes": ("Resize", [None, None, np.array([2, 4, 12, 12], L)], {}),
    "resize_region": (
        "Resize",
        [np.array([0, 0, 0.1, 0.1, 1, 1, 0.9, 0.9], F), np.array([1, 1, 2, 2], F)],
        {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"},
    ),
    "top_k": ("TopK", [np.array([8], L)], {"outputs": 2, "axis": 3}),
    "max_pool_places": ("MaxPool", [], {"outputs": 2, "kernel_shape": [1, 1]}),
    "clip": ("Clip", [np.array(-1, F), np.array(1, F)], {}),
    "pow": ("Pow", [np.array(2, F)], {}),
    "pad": ("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1], L), np.array(0.5, F)], {}),
    "slice": ("Slice", [np.array([0], L), np.array([6], L), np.array([2], L)], {}),
    "gather": ("Gather", [np.array([3, 1, 0, 2], L)], {"axis": 1}),
    "cumulative_sum": ("CumSum", [np.array(2, L)], {}),
    "batch_norm": (
        "BatchNormalization",
        [np.ones(4, F), np.zeros(4, F), np.zeros(4, F), np.ones(4, F)],
        {},
    ),
    "reduce": ("ReduceMean", [np.array([2], L)], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_stands_between_narrow_layers_is_a_valid_graph(name: str) -> None:
    """ONNX Runtime loads it, and it computes what the float32 graph computes, to eleven bits."""
    kind, extra, attributes = CASES[name]
    plain, model = between(kind, extra, **attributes), between(kind, extra, **attributes)
    assert halve(model, Precision.FP16) == 2
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(1).standard_normal((2, 4, 8, 8)).astype(np.float32)
    wanted, found = (
        OrtEngine(m.SerializeToString(), threads=1).run({"x": x})["y"] for m in (plain, model)
    )
    # Places among equal maxima may differ after rounding: only where they are read.
    tolerance = 0.02 if name != "top_k" else 8
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_no_input_gets_a_type_that_its_operator_does_not_take(precision: Precision) -> None:
    """Over all standard operators with float inputs: only slots that may be narrow are."""
    kind = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}[precision]
    tried = 0
    for found in {s.name: s for s in defs.get_all_schemas() if not s.domain}.values():
        latest = defs.get_schema(found.name, OPSET, "") if defs.has(found.name, OPSET, "") else None
        if latest is None or latest.deprecated or not latest.inputs:
            continue
        node = helper.make_node(found.name, [f"i{i}" for i in range(len(latest.inputs))], ["o"])
        for place in narrow_inputs(node, kind, OPSET):
            assert TYPES[kind] in allowed(latest, latest.inputs[place].type_str)
        tried += 1
    assert tried > 120


def test_scales_sizes_and_regions_of_a_resize_stay() -> None:
    """They are places in a picture."""
    node = helper.make_node("Resize", ["x", "roi", "scales", "sizes"], ["y"])
    assert narrow_inputs(node, TensorProto.FLOAT16, OPSET) == {0}
