"""ONNX Runtime: the engine of phones, laptops and CPU servers.

The only file that imports onnxruntime, and where its exceptions become ours. Knows bytes of a
graph and arrays; not what the graph is for.
"""

import threading
from collections.abc import Mapping

import numpy as np

from cascade.errors import Cancelled, EngineError, MissingExtra
from cascade.types import Array

try:
    import onnxruntime as ort
except ImportError as exc:
    raise MissingExtra(
        "ONNX Runtime is not installed: pip install 'edge-cascade[cpu]' (or [gpu])"
    ) from exc

FATAL = 4
"""ONNX Runtime's log level that keeps it silent: failures come back as exceptions."""


class OrtEngine:
    """One graph in one ONNX Runtime session. Runs may not overlap; `terminate` comes any time."""

    def __init__(self, graph: bytes, *, threads: int = 0) -> None:
        """Load a graph.

        Args:
            graph: an ONNX file's bytes, without external data.
            threads: threads of one run; 0 takes one per core.

        Raises:
            EngineError: the bytes are not a graph that ONNX Runtime can run.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        # Idle pools that spin triple the time of every other session on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            raise EngineError(f"ONNX Runtime cannot load the graph: {exc}") from exc
        self._lock = threading.Lock()
        self._running: ort.RunOptions | None = None

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """Name to dtype and shape of every input, symbolic axes by name."""
        return {i.name: (dtype_name(i.type), tuple(i.shape)) for i in self._session.get_inputs()}

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """Name to dtype and shape of every output."""
        return {o.name: (dtype_name(o.type), tuple(o.shape)) for o in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; see `Engine.run`."""
        names = [output.name for output in self._session.get_outputs()]
        options = ort.RunOptions()
        options.log_severity_level = FATAL
        with self._lock:
            self._running = options
        try:
            values = self._session.run(names, dict(inputs), options)
        except Exception as exc:
            if options.terminate:
                raise Cancelled("the run was ended from outside") from exc
            raise EngineError(f"ONNX Runtime failed: {exc}") from exc
        finally:
            with self._lock:
                self._running = None
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def terminate(self) -> None:
        """End the run in progress within about a millisecond; see `Engine.terminate`."""
        with self._lock:
            if self._running is not None:
                self._running.terminate = True

    def close(self) -> None:
        """Drop the session."""
        self.terminate()
        del self._session


def dtype_name(ort_type: str) -> str:
    """`tensor(float) -> float32`: numpy's name of an ONNX Runtime type."""
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
