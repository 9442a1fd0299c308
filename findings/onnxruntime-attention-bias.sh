#!/usr/bin/env bash
# ONNX Runtime refuses an Attention (operator set 23) whose mask has one row for all queries or one
# column for all keys. The definition asks for a mask that can be broadcast to batch, heads, queries
# and keys; the reference implementation of the onnx package computes both.
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
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(0)
tokens = rng.standard_normal((2, 4, 6, 8)).astype(np.float32)
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")


def tried(shape):
    """Whether ONNX Runtime computes it, and how far it is from the reference implementation."""
    graph = helper.make_graph(
        [helper.make_node("Attention", ["q", "q", "q", "mask"], ["y"])],
        "attention",
        [
            helper.make_tensor_value_info("q", TensorProto.FLOAT, list(tokens.shape)),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, list(shape)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(tokens.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    model.ir_version = 11
    onnx.checker.check_model(model, full_check=True)
    inputs = {"q": tokens, "mask": rng.standard_normal(shape).astype(np.float32)}
    wanted = ReferenceEvaluator(model).run(None, inputs)[0]
    assert wanted.shape == tokens.shape and np.isfinite(wanted).all()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(None, inputs)[0]
    except Exception as refused:
        print(f"  mask {shape}: refused: {str(refused).splitlines()[0][:150]}")
        return False
    print(f"  mask {shape}: computed, {np.abs(found - wanted).max():.1e} from the reference")
    return bool(np.abs(found - wanted).max() < 1e-4)


whole = tried((2, 1, 6, 6))
row, column = tried((2, 1, 1, 6)), tried((2, 1, 6, 1))
if whole and not row and not column:
    print("A mask with one row or one column is refused; the definition lets it be broadcast.")
    sys.exit(0)
print("The behaviour has changed.")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
code=$?
[ "$code" -le 1 ] || code=2
exit "$code"
