"""An engine that counts its runs, so that a test can say what was computed and what was not."""

from typing import Any, ClassVar

from cascade.engines.factory import EngineChoice, open_engine
from cascade.types import Array


class CountingEngine:
    """The true engine; the count is over all of its kind."""

    runs: ClassVar[int] = 0

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        self._engine = open_engine(graph, choice)

    def run(self, inputs: Any) -> dict[str, Array]:
        """Count, and run."""
        CountingEngine.runs += 1
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """End a run."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
