"""The stages that run on this machine: opened when first needed, kept open, shared by all requests.

The only file here that reaches an engine (through `cascade.engines.choice`). Knows the bundle; not
requests.
"""

import threading
from collections.abc import Mapping

from cascade.bundle import Bundle
from cascade.engine_plan import plan_here
from cascade.engines.choice import EngineChoice, open_engine
from cascade.engines.engine import Engine
from cascade.hosting import open_stage
from cascade.stage import Stage
from cascade.types import Array
from cascade.wishes import EngineWish


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

    def __init__(self, bundle: Bundle, wish: EngineWish) -> None:
        """Nothing is opened yet.

        Args:
            bundle: an opened bundle.
            wish: what to run its graphs with.
        """
        self._bundle = bundle
        self._wish = wish
        self._lock = threading.Lock()
        self._open: dict[int, Stage] = {}

    def at(self, position: int) -> Stage:
        """The component at that position.

        Raises:
            ManifestError: its file is not what the manifest says.
            EngineError: its graph cannot be loaded.
            InvalidRequest: no engine here does what the wish asks for.
        """
        with self._lock:
            stage = self._open.get(position)
            if stage is None:
                stage = self._open_stage(position)
                self._open[position] = stage
            return stage

    def close(self) -> None:
        """Release every engine."""
        with self._lock:
            for stage in self._open.values():
                stage.close()
            self._open.clear()

    def _open_stage(self, position: int) -> Stage:
        plan = plan_here(self._bundle.manifest, self._wish, (position,))

        def make_engine(graph: bytes, choice: EngineChoice) -> Engine:
            return TurnTakingEngine(open_engine(graph, choice, cache=plan.cache))

        return open_stage(self._bundle, position, plan, make_engine)
