"""ONNX Runtime: the engine of phones, laptops and CPU servers, and through providers of GPUs.

The only file that imports onnxruntime, and where its exceptions become ours. Knows bytes of a
graph and arrays; not what the graph is for.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cascade.errors import Cancelled, EngineError, MissingExtra
from cascade.system.cores import engine_threads
from cascade.types import Array

# ONNX Runtime 1.31 reports to its makers over the network from the moment it is imported, on Linux
# too; this variable alone keeps it from that. Whoever sets it to something else has chosen.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime as ort
except ImportError as exc:
    raise MissingExtra(
        "ONNX Runtime is not installed: pip install 'edge-cascade[cpu]' (or [gpu])"
    ) from exc

FATAL = 4
"""ONNX Runtime's log level that keeps it silent: failures come back as exceptions."""

CPU_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Provider:
    """What inside ONNX Runtime does the work.

    Attributes:
        name: as ONNX Runtime calls it.
        options: its options, all text.
        remedy: what to do where this build or machine does not have it.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""


ON_CPU = Provider(CPU_PROVIDER)


class OrtEngine:
    """One graph in one ONNX Runtime session. Runs may not overlap; `terminate` comes any time."""

    def __init__(self, graph: bytes, *, threads: int = 0, provider: Provider = ON_CPU) -> None:
        """Load a graph.

        Args:
            graph: an ONNX file's bytes, without external data.
            threads: threads of one run; 0 takes one per core that this process may use.
            provider: what does the work; single operators that it lacks run on the CPU.

        Raises:
            EngineError: the bytes are not a graph that ONNX Runtime can run, or the provider is
                not there.
        """
        if provider.name not in ort.get_available_providers():
            raise EngineError(
                f"this build of ONNX Runtime has no {provider.name}: {provider.remedy}",
                field="engine",
            )
        options = ort.SessionOptions()
        # A number, never 0: ONNX Runtime would pin its threads, and to processors that this process
        # may not use.
        options.intra_op_num_threads = engine_threads(threads)
        # A pool for parallel branches would compete with the first one for the same cores.
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        # A plan of the activations would be kept per input shape, as one block each: 140 MiB more
        # after one 1024 picture, 180 after runs of four, and no faster (ratios 0.99 to 1.01).
        options.enable_mem_pattern = False
        # Idle pools that spin triple the time of every other session on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                graph, options, providers=[(provider.name, dict(provider.options))]
            )
        except Exception as exc:
            raise EngineError(f"ONNX Runtime cannot load the graph: {exc}") from exc
        refuse_fallback(self._session.get_providers(), provider)
        self._lock = threading.Lock()
        self._running: ort.RunOptions | None = None

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """Name to dtype and shape of every input, symbolic axes by name."""
        return {i.name: (dtype_name(i.type), tuple(i.shape)) for i in self._open().get_inputs()}

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """Name to dtype and shape of every output."""
        return {o.name: (dtype_name(o.type), tuple(o.shape)) for o in self._open().get_outputs()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; shapes, dtypes and errors are those of `Engine.run`."""
        session = self._open()
        names = [output.name for output in session.get_outputs()]
        options = ort.RunOptions()
        options.log_severity_level = FATAL
        # Published before the run begins: `terminate` from another thread finds it or comes too
        # early, and then ends nothing.
        with self._lock:
            self._running = options
        try:
            values = session.run(names, dict(inputs), options)
        except Exception as exc:
            # ONNX Runtime reports both as an exception of one type.
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
        """Drop the session; a second call is harmless."""
        self.terminate()
        self._session = None

    def _open(self) -> ort.InferenceSession:
        """The session, while there is one."""
        if self._session is None:
            raise EngineError("the engine was closed: open the stage again")
        return self._session


def refuse_fallback(active: list[str], provider: Provider) -> None:
    """Raise unless the provider was taken: ONNX Runtime falls back to the CPU without a word.

    Args:
        active: the session's providers, the preferred first.
        provider: the one that was asked for.
    """
    if active[:1] != [provider.name]:
        raise EngineError(
            f"ONNX Runtime could not start {provider.name} and would run on "
            f"{', '.join(active)}: {provider.remedy}",
            field="engine",
        )


def dtype_name(ort_type: str) -> str:
    """`tensor(float) -> float32`: numpy's name of an ONNX Runtime type."""
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
