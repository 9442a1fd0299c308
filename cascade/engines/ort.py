"""ONNX Runtime: the engine of phones, laptops and CPU servers, and through providers of GPUs.

The only file that imports onnxruntime, and where its exceptions become ours. Knows bytes of a
graph and arrays; not what the graph is for.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cascade.errors import Cancelled, CascadeError, EngineError, MissingExtra
from cascade.system.cores import engine_threads
from cascade.system.free_memory import give_back_free_memory
from cascade.types import Array
from cascade.weights.loose import LooseGraph
from cascade.weights.readers import has_block_products, readable_in_place
from cascade.weights.source import ExternalGraph, GraphSource, graph_data

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
SPIN_US = 100
"""How long a thread waits awake for the next operator of a run. Longer gains nothing on an idle
machine, and takes cores from others on a busy one."""
FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"
"""Where a graph's outer weights lie, for a session that is opened from bytes."""


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

    def __init__(
        self,
        graph: GraphSource,
        *,
        threads: int = 0,
        provider: Provider = ON_CPU,
        keeps_scratch: bool = True,
    ) -> None:
        """Load a graph.

        Args:
            graph: an ONNX file's bytes with all weights, or one with weights beside it: those are
                read where they lie, as far as the graph allows that on a CPU.
            threads: threads of one run; 0 takes one per core that this process may use.
            provider: what does the work; single operators that it lacks run on the CPU.
            keeps_scratch: whether a run's memory stays for the next one; see `session_options`.

        Raises:
            EngineError: the bytes are not a graph that ONNX Runtime can run, or the provider is
                not there.
            ManifestError: weights beside the graph are not what the manifest says.
        """
        if provider.name not in ort.get_available_providers():
            raise EngineError(
                f"this build of ONNX Runtime has no {provider.name}: {provider.remedy}",
                field="engine",
            )
        options = session_options(threads, keeps_scratch=keeps_scratch)
        self._beside = None if isinstance(graph, bytes) else WeightsBeside(graph, provider)
        try:
            if self._beside is not None:
                self._beside.add_to(options)
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                graph_data(graph), options, providers=[(provider.name, dict(provider.options))]
            )
            refuse_fallback(self._session.get_providers(), provider)
        except Exception as exc:
            if self._beside is not None:
                self._beside.release()
            if isinstance(exc, CascadeError):
                raise
            raise EngineError(f"ONNX Runtime cannot load the graph: {exc}") from exc
        if self._beside is not None:
            self._beside.keep_read()
        # The session keeps the file's bytes for its life, to fall back to other providers with:
        # that is refused here, and they are as large as the weights.
        self._session._model_bytes = None  # noqa: SLF001
        give_back_free_memory()
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
        if self._beside is not None:
            self._beside.release()

    def _open(self) -> ort.InferenceSession:
        """The session, while there is one."""
        if self._session is None:
            raise EngineError("the engine was closed: open the stage again")
        return self._session


def session_options(threads: int, *, keeps_scratch: bool = True) -> ort.SessionOptions:
    """How every session runs; arguments as in `OrtEngine`.

    An arena keeps a run's memory for good. Maps of a large picture would be mapped and cleared anew
    in every run without one: a tenth of the time of 1024x1024. Those of small ones are given back
    between requests, at no cost that was measured.
    """
    options = ort.SessionOptions()
    # A number, never 0: ONNX Runtime would pin its threads, and to processors that this process
    # may not use.
    options.intra_op_num_threads = engine_threads(threads)
    # A pool for parallel branches would compete with the first one for the same cores.
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    options.enable_cpu_mem_arena = keeps_scratch
    # A plan of the activations would be kept per input shape, as one block each: 140 MiB more
    # after one 1024 picture, 180 after runs of four, and no faster (ratios 0.99 to 1.01).
    options.enable_mem_pattern = False
    # The arena grows by doubling: weights in it would take up to twice their size.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    # Threads that sleep between two operators are woken anew for each, a thousand times for a 64x64
    # picture: a quarter of its time, and all of it again where a sleeping core is another guest's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    # Idle pools that spin triple the time of every other session on the machine.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class WeightsBeside:
    """Weights in memory that sessions read where they lie, or copy where they lay them out anew."""

    def __init__(self, graph: ExternalGraph | LooseGraph, provider: Provider) -> None:
        """Read and check a graph's weights.

        Raises:
            ManifestError: the file is not what the manifest says.
        """
        # A card has a memory of its own: what is there is a copy.
        on_cpu = provider.name == CPU_PROVIDER
        self._read = readable_in_place(graph.data, graph.names) if on_cpu else frozenset()
        self._is_loose = isinstance(graph, LooseGraph)
        # Packed weights are a second copy of all of them, unless the first one is free then.
        self._packs = self._is_loose or has_block_products(graph.data)
        self._file = graph.file
        self._is_held_by_session = False
        self._lease = graph.lease()
        self._values: dict[str, ort.OrtValue] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add_to(self, options: ort.SessionOptions) -> None:
        """Give a session that is to be opened the weights; `options` is changed."""
        wrap = self._wrapper()
        values = {name: wrap(tensor) for name, tensor in self._lease.tensors.items()}
        copied = [name for name in values if name not in self._read]
        if copied:
            options.add_external_initializers(copied, [values[name] for name in copied])
        self._values = {name: values[name] for name in self._read}
        if not self._values:
            return
        for name, value in self._values.items():
            options.add_initializer(name, value)
        if not self._packs:
            options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry(FOLDER_OF_WEIGHTS, self._stand_in())

    def _wrapper(self) -> Callable[[Array], ort.OrtValue]:
        """What makes ONNX Runtime's value over an array's memory.

        One that holds the array, where this version has it and the array is held for nobody else:
        the session counts its references, and drops a weight that it has packed.
        """
        holding: Callable[[Array], ort.OrtValue] | None = getattr(ort.OrtValue, "from_dlpack", None)
        if self._is_loose and holding is not None:
            self._is_held_by_session = True
            return holding
        return ort.OrtValue.ortvalue_from_numpy  # type: ignore[no-any-return]

    def _stand_in(self) -> str:
        """A folder with a file of the right name and a byte in it.

        ONNX Runtime wants the file to be there and takes the values that it was given. Should it
        ever read the file instead, this one is too short, and the session is refused.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="edge-cascade-")
        (Path(self._folder.name) / self._file).write_bytes(b"\0")
        return self._folder.name

    def keep_read(self) -> None:
        """Let go what the session that was opened has copied."""
        if self._is_held_by_session:
            self._values.clear()
            self._lease.release()
        self._lease.keep(self._read)
        self._remove_folder()

    def release(self) -> None:
        """Let all go; a second call is harmless."""
        self._values.clear()
        self._lease.release()
        self._remove_folder()

    def _remove_folder(self) -> None:
        """The session looks for the file while it is opened, never later."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


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
