"""OpenVINO: the engine of x86 processors, for float32 graphs and for 8-bit ones.

Where its exceptions become ours. Knows bytes of a graph and arrays; not what the graph is for. A
graph is compiled for the shapes that most runs have, and once more, on demand, for all others.

Two things of OpenVINO 2026.4 are worked around here. Compiling a graph whose shapes are all fixed
ends the process with a segmentation fault where a GroupNormalization is multiplied by a sum (its
"snippets" pass): that pass is switched off for such graphs, and graphs with that operator keep
their free axes. The other stands at `terminate`.
"""

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cascade.codecs.onnx_files import input_names, output_names
from cascade.engines.engine_cache import CacheKey, Made, open_cache
from cascade.engines.openvino_library import ov
from cascade.engines.openvino_shapes import (
    DefaultShapes,
    can_be_pinned,
    fits,
    normalise_in_place,
    pin,
)
from cascade.errors import Cancelled, EngineError
from cascade.precision import Precision
from cascade.system.cores import engine_threads
from cascade.system.processor import Processor, this_processor
from cascade.system.sealed_memory import SharedCopy
from cascade.types import Array
from cascade.weights.source import GraphSource, graph_data, source_sha256, whole_graph

DEVICE = "CPU"
FORM = 2
"""Of what is done to a graph before it is compiled: cached work of other forms is left alone."""
NO_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
HINTS = {
    Precision.FP32: "f32",
    # What an 8-bit graph leaves in float stays float32; but see `hint_of`.
    Precision.INT8: "f32",
    Precision.INT4_BLOCK: "f32",
    Precision.BF16: "bf16",
    Precision.FP16: "f16",
}
NEEDS = {Precision.BF16: "BF16", Precision.FP16: "FP16"}
"""What the processor must have: without it OpenVINO would compute in float32 and not say so."""


class OpenVinoEngine:
    """One graph, compiled. Runs may not overlap; `terminate` comes any time."""

    def __init__(
        self,
        graph: GraphSource,
        *,
        threads: int = 0,
        precision: Precision = Precision.FP32,
        cache: Path | None = None,
        default_shapes: DefaultShapes | None = None,
    ) -> None:
        """Compile a graph, or take it from the cache.

        Args:
            graph: weights beside it are copied into it while it is compiled.
            threads: threads of one run; 0 takes one per core that this process may use.
            precision: float32 unless asked otherwise; INT8 is for a graph that holds 8-bit layers.
            cache: a folder that only this user may change; None, or a folder that others could
                write to, keeps nothing.
            default_shapes: of most runs, which are the faster for it; runs of other shapes work
                too, after another compilation. Without it all shapes are free.

        Raises:
            EngineError: not a graph that OpenVINO can run, or a precision that this processor or
                OpenVINO does not have.
            ManifestError: weights beside the graph are not what the manifest says.
        """
        self._outputs = output_names(graph_data(graph))
        self._core = ov.Core()
        check_precision(precision, self._core)
        # Kept whole: shapes that come later are compiled from it.
        self._graph: GraphSource = graph
        self._precision, self._cache = precision, cache
        self._config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint_of(precision, this_processor()),
            "INFERENCE_NUM_THREADS": engine_threads(threads),
            # Weights that lie in 8 bits are widened exactly; by default OpenVINO rounds what they
            # are multiplied with to 8 bits too, and call that float32.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            # Client and server share a machine: two processes pinned to the same cores would wait.
            "ENABLE_CPU_PINNING": False,
        }
        self._default_shapes = (
            default_shapes
            if default_shapes is not None and can_be_pinned(graph_data(graph))
            else None
        )
        self._requests: dict[bool, Any] = {}
        self._copies: dict[bool, SharedCopy] = {}
        compiled = self._open_first()
        names = input_names(graph_data(graph))
        self._dtypes = {n: compiled.input(n).element_type.to_dtype() for n in names}
        self._lock = threading.Lock()
        self._running = self._ended = self._closed = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; shapes, dtypes and errors are those of `Engine.run`."""
        if self._closed:
            raise EngineError("the engine was closed: open the stage again")
        self._check_inputs(inputs)
        pinned = self._default_shapes is not None and fits(inputs, self._default_shapes)
        # Compiled at the first run of such shapes: most engines never meet others.
        if pinned not in self._requests:
            self._open(pinned=pinned)
        # Held together: the graph reads the copy, whoever closes this engine meanwhile.
        request, _held = self._requests[pinned], self._copies.get(pinned)
        with self._lock:
            self._running, self._ended = True, False
        try:
            # Shared: the arrays are not copied in, and live until the run is over.
            request.infer(dict(inputs), share_inputs=True)
        except (RuntimeError, TypeError, ValueError) as exc:
            raise EngineError(f"OpenVINO failed: {brief(exc)}") from exc
        finally:
            with self._lock:
                self._running = False
        # Read after the run: `terminate` may have come at its very end, and is then obeyed all the
        # same.
        if self._ended:
            raise Cancelled("the run was ended from outside")
        # Copied: the next run writes into the same memory.
        return {
            name: np.array(request.get_output_tensor(index).data)
            for index, name in enumerate(self._outputs)
        }

    def terminate(self) -> None:
        """Throw the run in progress away once it is through: at the step's end, not inside it.

        OpenVINO can cancel inside a step, within milliseconds. But after that its 2026.4 hands out
        the next run of other input shapes in the cancelled run's output shape, from a new request
        too; only compiling anew, which takes longer than a step, surely helps. See
        docs/decisions/0009-engine-and-precision.md.
        """
        with self._lock:
            # Between runs there is nothing to end: a flag that stayed would throw the next run
            # away.
            self._ended = self._running

    def close(self) -> None:
        """Drop the compiled graph; a second call is harmless."""
        self.terminate()
        self._closed = True
        self._requests.clear()
        self._copies.clear()
        self._graph = b""

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Raise unless names and dtypes fit: OpenVINO would convert, and make up the missing."""
        found = {name: value.dtype for name, value in inputs.items()}
        if found != self._dtypes:
            raise EngineError(
                f"OpenVINO failed: expected inputs {described(self._dtypes)}, got "
                f"{described(found)}"
            )

    def _open_first(self) -> Any:
        """For the default shapes; for all where there are none, or the graph cannot have them."""
        if self._default_shapes is not None:
            try:
                return self._open(pinned=True)
            # Some graphs have no such shapes: free ones are slower and right.
            except EngineError:
                self._default_shapes = None
        return self._open(pinned=False)

    def _open(self, *, pinned: bool) -> Any:
        """The graph compiled for the default shapes or for all, ready to run."""
        try:
            compiled = self._from_cache(pinned=pinned)
            self._requests[pinned] = compiled.create_infer_request()
        except RuntimeError as exc:
            raise EngineError(f"OpenVINO cannot load the graph: {brief(exc)}") from exc
        return compiled

    def _from_cache(self, *, pinned: bool) -> Any:
        """The compiled graph: from the folder where it holds one that fits and still loads."""
        cache = open_cache(self._cache)
        if cache is None:
            return self._compile(pinned=pinned)
        shapes = sorted((self._default_shapes or {}).items())
        key = CacheKey(
            graph_sha256=source_sha256(self._graph),
            library="openvino",
            library_version=ov.get_version(),
            target=str(this_processor()),
            profile=f"{FORM}: {shapes if pinned else 'as exported'}",
            precision=self._precision,
            flags=tuple(f"{name}={value}" for name, value in sorted(self._config.items())),
        )
        made: list[Any] = []

        def build() -> Made:
            made.append(self._compile(pinned=pinned))
            return Made(made[0].export_model().getvalue(), {})

        # The compiled graph itself need not go through the file that was just written.
        entry = cache.get_or_build(key, build)
        if made:
            return made[0]
        try:
            return self._import(entry.payload, cache.path(key), pinned=pinned)
        # Whole and of this key, and still refused: compiling anew is always right.
        except RuntimeError:
            cache.keep(key, build())
            return made[0]

    def _import(self, payload: bytes, path: Path, *, pinned: bool) -> Any:
        """A compiled graph of the cache; its weights are read where they lie, if that is shared.

        Raises:
            RuntimeError: OpenVINO refuses it.
        """
        try:
            copy = SharedCopy(payload, path)
        except OSError:
            return self._core.import_model(io.BytesIO(payload), DEVICE, self._config)
        blob = ov.Tensor(np.frombuffer(copy.memory, np.uint8), shared_memory=True)
        compiled = self._core.import_model(blob, DEVICE, self._config)
        self._copies[pinned] = copy
        return compiled

    def _compile(self, *, pinned: bool) -> Any:
        """The graph compiled from its ONNX bytes."""
        model = self._core.read_model(whole_graph(self._graph))
        if pinned and self._default_shapes is not None:
            pin(model, self._default_shapes)
            if self._config["INFERENCE_PRECISION_HINT"] == HINTS[Precision.BF16]:
                normalise_in_place(model)
        config = self._config if model.is_dynamic() else {**self._config, **NO_SNIPPETS}
        return self._core.compile_model(model, DEVICE, config)


def hint_of(precision: Precision, processor: Processor) -> str:
    """What OpenVINO is told to compute the float part of a graph in.

    Where the processor multiplies bfloat16 in matrix tiles, what an 8-bit graph leaves in float is
    computed in bfloat16: half the time of a step, and the error of the 8 bits grows by a sixth at
    most (docs/decisions/0009-engine-and-precision.md).
    """
    if precision is Precision.INT8 and processor.has_bf16_tiles:
        return HINTS[Precision.BF16]
    return HINTS[precision]


def check_precision(precision: Precision, core: Any) -> None:
    """Raise `EngineError` for a precision that would silently become another one."""
    if precision not in HINTS:
        raise EngineError(f"precision: OpenVINO cannot do {precision}", field="precision")
    needed = NEEDS.get(precision)
    if needed is not None and needed not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        raise EngineError(
            f"precision: this processor has no {precision} arithmetic: use fp32, or int8 where the "
            "bundle has it",
            field="precision",
        )


def described(dtypes: Mapping[str, Any]) -> str:
    """`name dtype` of each input, sorted."""
    return ", ".join(f"{name} {np.dtype(dtypes[name])}" for name in sorted(dtypes)) or "none"


def brief(exc: Exception) -> str:
    """The last line of OpenVINO's message, which says what is wrong; the rest says where."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(exc).__name__
