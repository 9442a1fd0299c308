"""An engine whose runs never last less than so long, however fast the machine is."""

import time
from typing import Any

from cascade.engines.factory import EngineChoice, open_engine
from cascade.types import Array

LEAST_S = 0.01


class UnhurriedEngine:
    """The true engine; a run that is done too early waits."""

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        self._engine = open_engine(graph, choice)

    def run(self, inputs: Any) -> dict[str, Array]:
        """Run, and wait for the rest of `LEAST_S`."""
        end = time.monotonic() + LEAST_S
        outputs = self._engine.run(inputs)
        time.sleep(max(0.0, end - time.monotonic()))
        return outputs

    def terminate(self) -> None:
        """End a run."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
