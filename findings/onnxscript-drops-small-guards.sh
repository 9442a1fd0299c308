#!/usr/bin/env bash
# torch.onnx.export drops the guard of a division: its optimizer (onnxscript) takes a number within
# 1e-8 of 0 for 0, so `x / (sum + 1e-15)` becomes `x / sum`. Where the sum is 0, torch gives 0 and the
# exported graph gives NaN. Without the optimizer the graph is right.
# Exit: 0 as described, 1 the behaviour has changed, 2 it could not be tried.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" &&
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1 numpy==2.2.6 || exit 2
cat > "$folder/try.py" <<'PYTHON'
import logging
import sys
import warnings

import numpy as np
import onnxruntime
import onnxscript
import torch

warnings.simplefilter("ignore")
logging.getLogger("torch.onnx").setLevel(logging.ERROR)
print(f"torch {torch.__version__}, onnxscript {onnxscript.__version__}")


class Shares(torch.nn.Module):
    def __init__(self, guard):
        super().__init__()
        self.guard = guard

    def forward(self, x):
        return x / (x.sum(1, keepdim=True) + self.guard)


def tried(guard, optimize):
    """Whether the graph gives what torch gives for a row of zeros."""
    network, x = Shares(guard).eval(), torch.zeros(1, 3)
    program = torch.onnx.export(network, (x,), dynamo=True, optimize=optimize, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    kinds = [node.op_type for node in program.model_proto.graph.node]
    wanted = network(x).numpy()
    print(f"  guard {guard}, optimize={optimize}: torch {wanted}, graph {found}, {kinds}")
    return bool(np.array_equal(found, wanted))


dropped = [not tried(guard, True) for guard in (1e-15, 1e-8)]
kept = [tried(1e-7, True), tried(1e-15, False)]
if all(dropped) and all(kept):
    print("A guard of 1e-8 or less is dropped by the exporter's optimizer, without a word.")
    sys.exit(0)
print("The behaviour has changed.")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
code=$?
[ "$code" -le 1 ] || code=2
exit "$code"
