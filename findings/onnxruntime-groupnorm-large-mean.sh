#!/usr/bin/env bash
# ONNX Runtime's GroupNormalization loses most digits where the mean is large against the spread: its
# variance is the mean of squares less the square of the mean. InstanceNormalization over the same
# groups keeps them.
# Exit: 0 as described, 1 the behaviour has changed, 2 it could not be tried.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" &&
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxruntime==1.31.1 onnx==1.23.2 numpy==2.2.6 || exit 2
cat > "$folder/try.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS, GROUPS = 24, 3
AXES = ["n", CHANNELS, 32, 32]


def build(nodes, constants):
    """A valid graph: the checker has looked at it."""
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, AXES)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, AXES)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


group = build(
    [helper.make_node("GroupNormalization", ["x", "ones", "zeros"], ["y"], num_groups=GROUPS)],
    {"ones": np.ones(CHANNELS, np.float32), "zeros": np.zeros(CHANNELS, np.float32)},
)
instance = build(
    [
        helper.make_node("Reshape", ["x", "rows"], ["r"]),
        helper.make_node("InstanceNormalization", ["r", "ones", "zeros"], ["s"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ],
    {
        "rows": np.array([0, GROUPS, -1], np.int64),
        "ones": np.ones(GROUPS, np.float32),
        "zeros": np.zeros(GROUPS, np.float32),
    },
)
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
print("  largest error against float64, in standard deviations")
worst = {}
for mean in (0, 100, 1000, 10000):
    x = (np.random.default_rng(0).standard_normal((2, CHANNELS, 32, 32)) + mean).astype(np.float32)
    rows = x.astype(np.float64).reshape(2, GROUPS, -1)
    spread = np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    wanted = ((rows - rows.mean(-1, keepdims=True)) / spread).reshape(x.shape)
    errors = [float(np.abs(s.run(None, {"x": x})[0] - wanted).max()) for s in (group, instance)]
    worst[mean] = errors
    print(f"  mean {mean:6}: GroupNormalization {errors[0]:.1e}, InstanceNormalization {errors[1]:.1e}")
ratio = [a / b if np.isfinite(a) else float("inf") for a, b in worst.values()]
if ratio[1] > 10 and not worst[10000][0] < 0.1:
    print("GroupNormalization loses large means that InstanceNormalization keeps.")
    sys.exit(0)
print("The behaviour has changed.")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
code=$?
[ "$code" -le 1 ] || code=2
exit "$code"
