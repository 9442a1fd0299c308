#!/usr/bin/env bash
# TensorRT for RTX's ONNX parser makes the very same layer of GroupNormalization with num_groups 1,
# which ONNX defines over channels, height and width together, and of InstanceNormalization, which
# is over height and width of every channel by itself. The two operators give other numbers.
# LayerNormalization from the channels on is read over all three axes. No GPU is needed to see it.
# Exit: 0 as described, 1 the behaviour has changed, 2 it could not be tried.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" &&
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.2.6 &&
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    tensorrt-rtx-cu13-libs==1.7.1.116 tensorrt-rtx-cu13-bindings==1.7.1.116 || exit 2
cat > "$folder/try.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import tensorrt_rtx_bindings as trt
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(0)
x = rng.standard_normal((2, 8, 6, 6)).astype(np.float32) * np.arange(1, 9).reshape(8, 1, 1)
print(f"tensorrt_rtx {trt.__version__}, onnx {onnx.__version__}")


def read(kind, axes, **attributes):
    """The normalisation that the parser makes of an operator, and what ONNX says it computes."""
    weights = {n: np.full([8] + [1] * axes, v, np.float32) for n, v in (("gain", 1), ("offset", 0))}
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "gain", "offset"], ["y"], **attributes)],
        "norm",
        [info("x", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strong)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString())
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.NORMALIZATION:
            layer.__class__ = trt.INormalizationLayer
            summed = [name for bit, name in enumerate("BCHW") if layer.axes >> bit & 1]
            print(f"  {kind} {attributes}: over {''.join(summed)}, {layer.num_groups} group(s)")
            wanted = ReferenceEvaluator(model).run(None, {"x": x.astype(np.float32)})[0]
            return (layer.axes, layer.num_groups), wanted
    sys.exit(1)


group, group_numbers = read("GroupNormalization", 0, num_groups=1)
instance, instance_numbers = read("InstanceNormalization", 0)
layer, layer_numbers = read("LayerNormalization", 2, axis=1)
apart = float(np.abs(group_numbers - instance_numbers).max())
print(f"  by ONNX's definitions group and instance are {apart:.1f} apart, group and layer "
      f"{np.abs(group_numbers - layer_numbers).max():.0e}")
if group == instance != layer and apart > 0.5 and np.allclose(group_numbers, layer_numbers, atol=1e-5):
    print("A group norm of one group is read as an instance norm.")
    sys.exit(0)
print("The behaviour has changed.")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
code=$?
[ "$code" -le 1 ] || code=2
exit "$code"
