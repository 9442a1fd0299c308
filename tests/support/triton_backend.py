"""What stands in for Triton's ONNX Runtime backend where only its Python backend is installed.

Copied beside a real `tritonserver` as `backends/onnxruntime/model.py`: Triton then finds the
backend that the repository names, and everything but the run itself is Triton's own: reading and
checking configurations, shapes and types of requests, and joining them. Runs in Triton's
interpreter.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["TRITON_SITE"])

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    """One model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph."""
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        file = file / file.name if file.is_dir() else file
        self._session = ort.InferenceSession(str(file), options)
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run for all requests that Triton joined."""
        rows = []
        parts: dict[str, list[Any]] = {name: [] for name in self._inputs}
        for request in requests:
            for name, values in parts.items():
                values.append(triton.get_input_tensor_by_name(request, name).as_numpy())
            rows.append(len(parts[self._inputs[0]][-1]))
        whole = {name: np.concatenate(values) for name, values in parts.items()}
        outputs = self._session.run(self._outputs, whole)
        ends = np.cumsum(rows)
        return [
            triton.InferenceResponse(
                [
                    triton.Tensor(name, np.ascontiguousarray(value[end - count : end]))
                    for name, value in zip(self._outputs, outputs, strict=True)
                ]
            )
            for end, count in zip(ends, rows, strict=True)
        ]
