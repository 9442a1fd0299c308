"""A graph as a model of NVIDIA Triton: its configuration as a value, as `config.pbtxt`, and back.

What is particular there: a batch axis that no shape mentions, scalars of a row that are given a
shape of one and take it off again, and rows that share runs only where all other axes are equal.
Knows the records of a graph; opens no file and no connection.

References:
    `ModelConfig` of Triton's `model_config.proto`; "Reshape" and "Maximum Batch Size" of its
    documentation of the model configuration.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.errors import EngineError
from cascade.graph_spec import NET, GraphSpec, TensorSpec

DATATYPES: Mapping[str, str] = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int8": "INT8",
    "uint8": "UINT8",
}
"""Numpy's names to those of the protocol; a configuration has `TYPE_` before them."""
GRAPH_HASH = "graph_sha256"
"""Parameter: of the graph and its weights. A client refuses a model with another one."""
PADDED = "padded_inputs"
"""Parameter: names of inputs that may be filled with zeros up to a fixed length, with commas."""
ANY = -1
"""Size of an axis that requests may choose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTensor:
    """An input or output, without the batch axis."""

    name: str
    dtype: str
    """Numpy's name."""
    dims: tuple[int, ...]
    """Sizes after the batch axis, `ANY` where free; empty for a scalar of each row."""

    @property
    def is_scalar(self) -> bool:
        """Whether a row of it is one number, which Triton transports as `[1]`."""
        return not self.dims


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One model of a repository."""

    name: str
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    max_batch: int
    """Rows of one run."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Strings that backends and clients read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """How Triton runs a model."""

    device: str = "auto"
    """`auto`, `cpu` or `gpu`."""
    instances: int = 1
    """Copies of the model that run at once."""
    queue_delay_us: int = 0
    """Microseconds that a request waits for others to share its run."""
    tensorrt: str = ""
    """Precision mode of ONNX Runtime's TensorRT provider, `FP32` or `FP16`; empty without it."""


def model_name(component: str, role: str) -> str:
    """Of a component's graph."""
    return component if role == NET else f"{component}_{role}"


def config_of(
    name: str, graph: GraphSpec, *, max_batch: int, tokens: int, sha256: str
) -> ModelConfig:
    """A graph's configuration.

    Args:
        name: of the model.
        graph: as the manifest has it.
        max_batch: rows of one run.
        tokens: fixed length of the axes that may be padded; 0 leaves them free.
        sha256: of what the model computes with.

    Raises:
        EngineError: an input or output has no batch axis.
    """
    padded = graph.padded_axes if tokens else {}
    inputs = tuple(tensor_of(t, padded.get(t.name, ()), tokens) for t in graph.inputs)
    parameters = {GRAPH_HASH: sha256}
    if padded:
        parameters[PADDED] = ",".join(padded)
    return ModelConfig(
        name=name,
        inputs=inputs,
        outputs=tuple(tensor_of(t, (), tokens) for t in graph.outputs),
        max_batch=max_batch,
        parameters=parameters,
    )


def tensor_of(tensor: TensorSpec, padded: Sequence[int], tokens: int) -> ModelTensor:
    """One input or output; arguments as in `config_of`."""
    if not tensor.shape or isinstance(tensor.shape[0], int):
        raise EngineError(
            f"{tensor.name}: expected a free batch axis first, got {tensor.shape}: Triton joins "
            "requests along it",
            field="engine",
        )
    dims = (
        size if isinstance(size, int) else tokens if at in padded else ANY
        for at, size in enumerate(tensor.shape)
    )
    return ModelTensor(name=tensor.name, dtype=tensor.dtype, dims=tuple(dims)[1:])


def config_text(config: ModelConfig, serving: Serving) -> str:
    """A model's `config.pbtxt`."""
    lines = [
        f"name: {json.dumps(config.name)}",
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {config.max_batch}",
        *(tensor_text("input", tensor) for tensor in config.inputs),
        *(tensor_text("output", tensor) for tensor in config.outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {serving.queue_delay_us} }}",
        f"instance_group [ {{ count: {serving.instances} kind: KIND_{serving.device.upper()} }} ]",
        *(parameter_text(key, value) for key, value in config.parameters.items()),
    ]
    if serving.tensorrt:
        mode = f'parameters {{ key: "precision_mode" value: "{serving.tensorrt}" }}'
        provider = f'gpu_execution_accelerator [ {{ name: "tensorrt" {mode} }} ]'
        lines.append(f"optimization {{ execution_accelerators {{ {provider} }} }}")
    return "\n".join(lines) + "\n"


def parameter_text(key: str, value: str) -> str:
    """One parameter in a configuration."""
    return f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"


def tensor_text(kind: str, tensor: ModelTensor) -> str:
    """One input or output in a configuration."""
    dims = ", ".join(map(str, tensor.dims or (1,)))
    # A shape without axes passes the parser and is refused when the model is loaded.
    reshape = " reshape: { shape: [ ] }" if tensor.is_scalar else ""
    return (
        f"{kind} [ {{ name: {json.dumps(tensor.name)} data_type: TYPE_{DATATYPES[tensor.dtype]} "
        f"dims: [ {dims} ]{reshape} }} ]"
    )


def read_config(value: Any) -> ModelConfig:
    """A model's configuration as a server answers it, in JSON.

    Raises:
        EngineError: it is none, or of types that no graph has.
    """
    dtypes = {f"TYPE_{name}": dtype for dtype, name in DATATYPES.items()}
    try:
        return ModelConfig(
            name=str(value["name"]),
            inputs=tuple(read_tensor(item, dtypes) for item in value["input"]),
            outputs=tuple(read_tensor(item, dtypes) for item in value["output"]),
            max_batch=int(value["max_batch_size"]),
            parameters={
                str(key): str(item["string_value"])
                for key, item in value.get("parameters", {}).items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EngineError(
            f"the answer is no configuration of a model ({type(exc).__name__}: {exc}): is this a "
            "Triton server?",
            field="engine",
        ) from exc


def read_tensor(value: Any, dtypes: Mapping[str, str]) -> ModelTensor:
    """One input or output of an answer; see `read_config`."""
    reshape = value.get("reshape")
    shape = value["dims"] if reshape is None else reshape.get("shape", [])
    return ModelTensor(
        name=str(value["name"]), dtype=dtypes[value["data_type"]], dims=tuple(map(int, shape))
    )
