"""The stages that run on this machine: opened when first needed, kept open, shared by all requests.

The only file here that reaches ONNX Runtime (through `cascade.engines.ort`). Knows the bundle; not
requests.
"""

import threading
from collections.abc import Mapping

from cascade.bundle import Bundle
from cascade.engines.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.hosting import open_stage
from cascade.stage import Stage
from cascade.types import Array


class TurnTakingEngine:
    """An engine whose runs never overlap, whoever calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run when it is this caller's turn; see `Engine.run`."""
        with self._turn:
            return self._engine.run(inputs)

    def terminate(self) -> None:
        """End the run in progress, whoever's it is."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine once the run in progress has ended."""
        self._engine.terminate()
        with self._turn:
            self._engine.close()


class LocalStages:
    """Components of one bundle as stages here."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Nothing is opened yet.

        Args:
            bundle: an opened bundle.
            threads: threads of one engine run; 0 takes one per core.
        """
        self._bundle = bundle
        self._threads = threads
        self._lock = threading.Lock()
        self._open: dict[int, Stage] = {}

    def at(self, position: int) -> Stage:
        """The component at that position.

        Raises:
            ManifestError: its file is not what the manifest says.
            EngineError: its graph cannot be loaded.
        """
        with self._lock:
            stage = self._open.get(position)
            if stage is None:
                stage = open_stage(self._bundle, position, self._make_engine)
                self._open[position] = stage
            return stage

    def close(self) -> None:
        """Release every engine."""
        with self._lock:
            for stage in self._open.values():
                stage.close()
            self._open.clear()

    def _make_engine(self, graph: bytes) -> Engine:
        return TurnTakingEngine(OrtEngine(graph, threads=self._threads))
