"""How long a stage's engines ran in one request: what is left of its time is the host's.

Measures runs of engines of any kind; knows no stage.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cascade.engine import Engine
from cascade.host_work import HostWork, WorkedRun, run_with
from cascade.types import Array


@dataclass(slots=True)
class EngineClock:
    """Seconds of all runs so far."""

    seconds: float = 0.0
    now: Callable[[], float] = time.perf_counter
    """Seconds from any moment on."""

    def on(self, engines: Mapping[str, Engine]) -> dict[str, Engine]:
        """The same engines by role, their runs measured here."""
        return {role: ClockedEngine(engine, self) for role, engine in engines.items()}


@dataclass(frozen=True, slots=True)
class ClockedEngine:
    """An engine whose runs are measured."""

    inner: Engine
    clock: EngineClock

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inner engine's outputs; shapes, dtypes and errors are those of `Engine.run`."""
        begun = self.clock.now()
        try:
            return self.inner.run(inputs)
        finally:
            self.clock.seconds += self.clock.now() - begun

    def run_with(self, inputs: Mapping[str, Array], work: HostWork) -> WorkedRun:
        """The same with work that follows, which counts where the inner engine does it.

        Shapes and dtypes are those of `Engine.run`.
        """
        begun = self.clock.now()
        try:
            return run_with(self.inner, inputs, work)
        finally:
            self.clock.seconds += self.clock.now() - begun

    def terminate(self) -> None:
        """End the inner engine's run."""
        self.inner.terminate()

    def close(self) -> None:
        """Close the inner engine."""
        self.inner.close()
