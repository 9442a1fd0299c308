"""TensorRT: the engine of machines with an NVIDIA card.

Inputs cross to the card only when they changed, the work is one recorded CUDA graph per shape, and
outputs land in pinned memory. The only file that imports pycuda, and where its exceptions become
ours. Knows bytes of a graph and arrays; not what the graph is for.

No machine of this project has a card: everything here that calls CUDA was written from the
libraries' documentation and has never run. What decides is in `trt_plan`, which is tested, and
`tests/cascade/engines/test_trt.py` runs the rest wherever there is a card.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cascade.engines.cuda_driver import RecordedGraph
from cascade.engines.engine_cache import CACHE_FOLDER, open_cache
from cascade.engines.trt_build import build_engine, cached_engine
from cascade.engines.trt_library import LIBRARY, Complaints, trt
from cascade.engines.trt_options import BuildOptions
from cascade.engines.trt_plan import (
    Binding,
    RecentlyUsed,
    Sent,
    ShapeKey,
    check_inputs,
    shape_key,
    size_bytes,
)
from cascade.errors import Cancelled, EngineError, MissingExtra
from cascade.precision import Precision
from cascade.types import Array
from cascade.weights.source import GraphSource

try:
    import pycuda.driver as cuda
except ImportError as exc:
    raise MissingExtra(
        "pycuda is not installed: pip install 'edge-cascade[gpu]' on a machine with CUDA"
    ) from exc

SHAPES_KEPT = 4
"""Each holds its buffers and a recorded graph on the card."""


class TensorRtEngine:
    """One graph on the first card. Runs may not overlap; `terminate` comes any time."""

    def __init__(
        self,
        graph: GraphSource,
        *,
        precision: Precision = Precision.FP32,
        options: BuildOptions | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load the engine of a graph; build it first if the cache has none.

        Args:
            graph: in the form for GPUs (`gpu_graph`).
            precision: what the graph's heavy layers compute in.
            options: instead of `precision`: that and everything else that is built for.
            cache: a private folder; engines lie in a folder of it. None keeps nothing.

        Raises:
            EngineError: no card, or the graph cannot be built or loaded.
        """
        payload = load_or_build(graph, options or BuildOptions(precision=precision), cache)
        self._complaints = Complaints()
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None
        self._closed = False
        with translated():
            cuda.init()
            self._card = cuda.Device(0).retain_primary_context()
        with self._on_card():
            self._stream = cuda.Stream()
            self._runtime = trt.Runtime(self._complaints)
            self._engine = self._runtime.deserialize_cuda_engine(payload)
            if self._engine is None:
                raise EngineError(f"{LIBRARY} cannot load the engine: {self._complaints.text}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        sides = [self._engine.get_tensor_mode(name) for name in names]
        self._inputs = [
            binding(self._engine, n)
            for n, side in zip(names, sides, strict=True)
            if side == trt.TensorIOMode.INPUT
        ]
        self._outputs = [
            binding(self._engine, n)
            for n, side in zip(names, sides, strict=True)
            if side == trt.TensorIOMode.OUTPUT
        ]
        self._prepared: RecentlyUsed[Prepared] = RecentlyUsed(SHAPES_KEPT, Prepared.close)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; shapes, dtypes and errors are those of `Engine.run`."""
        if self._closed:
            raise EngineError("the engine is closed")
        arrays = check_inputs(self._inputs, inputs)
        ended = threading.Event()
        with self._lock:
            self._ended = ended
        try:
            with self._on_card():
                outputs = self._prepare(shape_key(arrays), arrays).run(arrays, ended)
        finally:
            with self._lock:
                self._ended = None
        if ended.is_set():
            raise Cancelled("the run was ended from outside")
        return outputs

    def _prepare(self, key: ShapeKey, arrays: Mapping[str, Array]) -> "Prepared":
        """Buffers and graph of these shapes."""
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        return self._prepared.get(
            key,
            lambda: Prepared(self._engine, self._stream, shapes, (self._inputs, self._outputs)),
        )

    def terminate(self) -> None:
        """End the run in progress at its end: work on the card cannot be taken back.

        One step takes milliseconds there; `run` raises `Cancelled` instead of returning it.
        """
        with self._lock:
            if self._ended is not None:
                self._ended.set()

    def close(self) -> None:
        """Give everything on the card back; again does nothing."""
        if self._closed:
            return
        self._closed = True
        self.terminate()
        with self._on_card():
            self._stream.synchronize()
            self._prepared.clear()
            del self._engine, self._runtime, self._stream
        self._card.detach()

    @contextmanager
    def _on_card(self) -> Iterator[None]:
        """Work on the card from whichever thread this is."""
        with translated():
            self._card.push()
            try:
                yield
            finally:
                cuda.Context.pop()


class Prepared:
    """Everything that one set of shapes needs: an execution context, buffers, a recorded graph."""

    def __init__(
        self,
        engine: Any,
        stream: Any,
        shapes: Mapping[str, tuple[int, ...]],
        bindings: tuple[list[Binding], list[Binding]],
    ) -> None:
        inputs, outputs = bindings
        self.stream = stream
        self.context = engine.create_execution_context()
        self.device: dict[str, Any] = {}
        self.sent: dict[str, Sent] = {}
        self.landed: dict[str, Array] = {}
        self.graph: RecordedGraph | None = None
        for item in inputs:
            self.context.set_input_shape(item.name, shapes[item.name])
            staged = cuda.pagelocked_empty(shapes[item.name], item.dtype)
            self.sent[item.name] = Sent(None, staged)
            self.place(item, shapes[item.name])
        for item in outputs:
            shape = tuple(self.context.get_tensor_shape(item.name))
            self.landed[item.name] = cuda.pagelocked_empty(shape, item.dtype)
            self.place(item, shape)

    def place(self, item: Binding, shape: tuple[int, ...]) -> None:
        """Give a binding its memory on the card."""
        self.device[item.name] = cuda.mem_alloc(size_bytes(shape, item.dtype))
        self.context.set_tensor_address(item.name, int(self.device[item.name]))

    def run(self, arrays: Mapping[str, Array], ended: threading.Event) -> dict[str, Array]:
        """Send what changed, launch, wait.

        Args:
            arrays: every input, of the shapes that this was made for, in C order.
            ended: set from another thread: nothing more is launched.

        Returns:
            Every output by name, of the engine's shape and dtype, the caller's to keep.
        """
        try:
            for name, array in arrays.items():
                self.send(name, array)
            if not ended.is_set():
                if self.graph is None:
                    self.graph = self.record()
                self.graph.launch()
        finally:
            self.stream.synchronize()
        return {name: array.copy() for name, array in self.landed.items()}

    def send(self, name: str, array: Array) -> None:
        """One input to the card, unless it lies there.

        Args:
            name: of the input.
            array: of the shape and dtype that this was made for, in C order.
        """
        sent = self.sent[name]
        if sent.holds(array):
            return
        # First: should the copy fail, nothing may be taken for sent.
        sent.source = None
        np.copyto(sent.staged, array)
        cuda.memcpy_htod_async(self.device[name], sent.staged, self.stream)
        sent.source = array

    def record(self) -> RecordedGraph:
        """The work of one run as a graph; one run before it lets the library allocate."""
        # Allocations inside a recording are an error of the driver.
        self.enqueue()
        self.stream.synchronize()
        graph = RecordedGraph(self.stream.handle)
        try:
            self.enqueue()
        except EngineError:
            graph.abandon()
            raise
        graph.finish()
        return graph

    def enqueue(self) -> None:
        """The network, then its outputs to pinned memory."""
        if not self.context.execute_async_v3(self.stream.handle):
            raise EngineError(f"{LIBRARY}: the run was refused")
        for name, array in self.landed.items():
            cuda.memcpy_dtoh_async(array, self.device[name], self.stream)

    def close(self) -> None:
        """Give the memory back."""
        if self.graph is not None:
            self.graph.close()
        for buffer in self.device.values():
            buffer.free()
        del self.context


def load_or_build(graph: GraphSource, options: BuildOptions, cache: Path | None) -> bytes:
    """A serialised engine."""
    opened = open_cache(cache and cache / CACHE_FOLDER)
    if opened is None:
        return build_engine(graph, options).payload
    return cached_engine(opened, graph, options).payload


def binding(engine: Any, name: str) -> Binding:
    """What the engine says of one input or output."""
    shape = tuple(engine.get_tensor_shape(name))
    dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
    if engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT:
        return Binding(name, dtype, shape)
    smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
    return Binding(name, dtype, shape, tuple(smallest), tuple(largest))


@contextmanager
def translated() -> Iterator[None]:
    """CUDA's errors as ours."""
    try:
        yield
    except cuda.Error as exc:
        raise EngineError(f"CUDA failed: {exc}") from exc
