"""OpenVINO: the engine of x86 processors, for float32 graphs and for 8-bit ones.

The only file that imports openvino, and where its exceptions become ours. Knows bytes of a graph
and arrays; not what the graph is for.

Three things of OpenVINO 2026.4 are worked around here. Importing it reports that import to its
makers over the network, unless its telemetry package is missing: for the length of the import it
is. Compiling a graph whose shapes are all fixed ends the process with a segmentation fault where a
GroupNormalization is multiplied by a sum (its "snippets" pass): that pass is switched off for such
graphs. Graphs with a free axis, as every bundle's are, do not meet the fault; there the pass stays
on. The third stands at `terminate`.
"""

import hashlib
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cascade.engines.engine_cache import EngineCache, EngineKey, Made
from cascade.errors import Cancelled, EngineError, MissingExtra
from cascade.onnx_files import input_names, output_names
from cascade.precision import Precision
from cascade.processor import Processor, this_processor
from cascade.types import Array

TELEMETRY = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Make the telemetry package look missing; openvino then imports its own silent stand-in."""
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import of it raises
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before


try:
    with no_telemetry():
        import openvino as ov
except ImportError as exc:
    raise MissingExtra("OpenVINO is not installed: pip install 'edge-cascade[openvino]'") from exc

DEVICE = "CPU"
HINTS = {
    Precision.FP32: "f32",
    # What an 8-bit graph leaves in float stays float32; but see `hint_of`.
    Precision.INT8: "f32",
    Precision.BF16: "bf16",
    Precision.FP16: "f16",
}
NEEDS = {Precision.BF16: "BF16", Precision.FP16: "FP16"}
"""What the processor must have: without it OpenVINO would compute in float32 and not say so."""


class OpenVinoEngine:
    """One graph, compiled. Runs may not overlap; `terminate` comes any time."""

    def __init__(
        self,
        graph: bytes,
        *,
        threads: int = 0,
        precision: Precision = Precision.FP32,
        cache: Path | None = None,
    ) -> None:
        """Compile a graph, or take it from the cache.

        Args:
            graph: an ONNX file's bytes, without external data.
            threads: threads of one run; 0 takes one per core.
            precision: float32 unless asked otherwise; INT8 is for a graph that holds 8-bit layers.
            cache: a folder that only this user may change; None, or a folder that others could
                write to, keeps nothing.

        Raises:
            EngineError: not a graph that OpenVINO can run, or a precision that this processor or
                OpenVINO does not have.
        """
        self._outputs = output_names(graph)
        names = input_names(graph)
        self._core = ov.Core()
        check_precision(precision, self._core)
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint_of(precision, this_processor()),
            "INFERENCE_NUM_THREADS": threads or this_processor().cores,
            # Weights that lie in 8 bits are widened exactly; by default OpenVINO rounds what they
            # are multiplied with to 8 bits too, and call that float32.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            # Client and server share a machine: two processes pinned to the same cores would wait.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = self._from_cache(graph, precision, config, cache)
            self._request: Any = self._compiled.create_infer_request()
        except RuntimeError as exc:
            raise EngineError(f"OpenVINO cannot load the graph: {brief(exc)}") from exc
        self._dtypes = {n: self._compiled.input(n).element_type.to_dtype() for n in names}
        self._lock = threading.Lock()
        self._running = self._ended = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; see `Engine.run`."""
        request = self._request
        if request is None:
            raise EngineError("the engine was closed: open the stage again")
        self._check_inputs(inputs)
        with self._lock:
            self._running, self._ended = True, False
        try:
            request.infer(dict(inputs), share_inputs=True)
        except (RuntimeError, TypeError, ValueError) as exc:
            raise EngineError(f"OpenVINO failed: {brief(exc)}") from exc
        finally:
            with self._lock:
                self._running = False
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
            self._ended = self._running

    def close(self) -> None:
        """Drop the compiled graph; a second call is harmless."""
        self.terminate()
        self._request = self._compiled = None

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Raise unless names and dtypes fit: OpenVINO would convert, and make up the missing."""
        found = {name: value.dtype for name, value in inputs.items()}
        if found != self._dtypes:
            raise EngineError(
                f"OpenVINO failed: expected inputs {described(self._dtypes)}, got "
                f"{described(found)}"
            )

    def _from_cache(
        self, graph: bytes, precision: Precision, config: dict[str, Any], folder: Path | None
    ) -> Any:
        """The compiled graph: from the folder where it holds one that fits and still loads."""
        cache = open_cache(folder)
        if cache is None:
            return self._compile(graph, config)
        key = EngineKey(
            graph_sha256=hashlib.sha256(graph).hexdigest(),
            library="openvino",
            library_version=ov.get_version(),
            target=str(this_processor()),
            profile="as exported",
            precision=precision,
            flags=tuple(f"{name}={value}" for name, value in sorted(config.items())),
        )
        made: list[Any] = []

        def build() -> Made:
            made.append(self._compile(graph, config))
            return Made(made[0].export_model().getvalue(), {})

        entry = cache.get_or_build(key, build)
        if made:
            return made[0]
        try:
            return self._core.import_model(io.BytesIO(entry.payload), DEVICE, config)
        except RuntimeError:
            cache.write(key, build())
            return made[0]

    def _compile(self, graph: bytes, config: dict[str, Any]) -> Any:
        """The graph compiled from its ONNX bytes."""
        model = self._core.read_model(graph)
        if not model.is_dynamic():
            config = {**config, "SNIPPETS_MODE": "DISABLE"}
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


def open_cache(folder: Path | None) -> EngineCache | None:
    """The cache in a folder; none where others could write: a cache is only a saving of time."""
    if folder is None:
        return None
    try:
        return EngineCache(folder)
    except EngineError:
        return None


def described(dtypes: Mapping[str, Any]) -> str:
    """`name dtype` of each input, sorted."""
    return ", ".join(f"{name} {np.dtype(dtypes[name])}" for name in sorted(dtypes)) or "none"


def brief(exc: Exception) -> str:
    """The last line of OpenVINO's message, which says what is wrong; the rest says where."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(exc).__name__
