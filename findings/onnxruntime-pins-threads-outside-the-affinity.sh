#!/bin/sh
# ONNX Runtime, given no number of threads, pins its worker threads by the machine's processors and
# not by those that the process may use: bound to one processor, it computes on another too.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install -q onnxruntime==1.31.1 onnx==1.23.2 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import time
from pathlib import Path

processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
if len(processors) < 2:
    print("needs Linux and two processors")
    sys.exit(2)
os.sched_setaffinity(0, processors[:1])

import onnxruntime
from onnx import TensorProto, helper

values = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [values], [result])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 9


def allowed():
    """The processors that the kernel lists for each thread of this process, once all have begun."""
    time.sleep(3)
    found = []
    for task in Path("/proc/self/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found += [line.split()[1] for line in lines if line.startswith("Cpus_allowed_list")]
    return sorted(found)


numbered = onnxruntime.SessionOptions()
numbered.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(model.SerializeToString(), numbered)
by_number = allowed()
del session
session = onnxruntime.InferenceSession(model.SerializeToString())
by_default = allowed()
mine = str(processors[0])
print("onnxruntime", onnxruntime.__version__)
print("the process may use processor", mine)
print("processors of its threads, 2 threads asked for:", by_number)
print("processors of its threads, no number given:", by_default)
same = set(by_number) == {mine} and set(by_default) != {mine}
print("Without a number threads are pinned beyond the affinity." if same else "CHANGED")
sys.exit(0 if same else 1)
PYTHON
