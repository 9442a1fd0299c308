#!/usr/bin/env bash
# OpenVINO computes wrong numbers, without a word, where one constant is the weight of a Conv and of a
# ConvTranspose, or of a square Gemm with and one without transB. With a copy for each it is right.
# Exit: 0 as described, 1 the behaviour has changed, 2 it could not be tried.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" &&
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 onnxruntime==1.31.1 onnx==1.23.2 numpy==2.2.6 || exit 2
cat > "$folder/try.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)


def build(nodes, weights, axes):
    """A valid graph: the checker has looked at it."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **extra) for kind, inputs, outputs, extra in nodes],
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def gap(name, nodes, weights, axes):
    """Largest difference between the two runtimes in standard deviations of the answer."""
    model = build(nodes, weights, axes)
    x = rng.standard_normal([2 if isinstance(n, str) else n for n in axes]).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": x})[0]
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    found = compiled({"x": x})[0]
    missed = float(np.abs(found - wanted).max() / wanted.std())
    print(f"  {name:44} {missed:.1e} standard deviations apart")
    return missed


def pair(first, second, own):
    """Two layers in a row, of one weight or of two equal ones."""
    return [
        (first[0], ["x", "w"], ["h"], first[1]),
        (second[0], ["h", "w2" if own else "w"], ["y"], second[1]),
    ]


print(f"openvino {openvino.__version__}, onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
kernel = rng.standard_normal((8, 8, 3, 3)).astype(np.float32)
matrix = rng.standard_normal((16, 16)).astype(np.float32)
pads = {"pads": [1, 1, 1, 1]}
cases = [
    ("Conv and ConvTranspose", ("Conv", pads), ("ConvTranspose", pads), kernel, ["n", 8, 16, 16]),
    ("Gemm with and without transB", ("Gemm", {"transB": 1}), ("Gemm", {}), matrix, ["n", 16]),
]
shared, own = [], []
for name, first, second, weight, axes in cases:
    shared.append(gap(f"{name}, one weight", pair(first, second, False), {"w": weight}, axes))
    both = {"w": weight, "w2": weight}
    own.append(gap(f"{name}, a copy each", pair(first, second, True), both, axes))
if min(shared) > 0.1 and max(own) < 1e-4:
    print("A weight that two layers read in opposite orders gives wrong numbers in OpenVINO.")
    sys.exit(0)
print("The behaviour has changed.")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
code=$?
[ "$code" -le 1 ] || code=2
exit "$code"
