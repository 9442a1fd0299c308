"""The contract of an engine: named arrays in, named arrays out.

Knows neither stages nor schedules; each backend is one file beside this one.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from cascade.types import Array


@runtime_checkable
class Engine(Protocol):
    """Runs one graph."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of the graph by name.

        Args:
            inputs: every input of the graph by name, each of the shape and dtype that the graph
                declares; nobody writes into them while this call runs.

        Returns:
            Arrays of the shapes and dtypes that the graph declares, not used by later runs.

        Raises:
            Cancelled: `terminate` was called from another thread while this call ran.
            EngineError: the backend refused the inputs or failed.
        """
        ...

    def terminate(self) -> None:
        """End the run in progress, if there is one, as soon as the backend can; from any thread.

        A later `run` is not affected.
        """
        ...

    def close(self) -> None:
        """Release the graph; the engine is not used again."""
        ...
