"""A label encoder as a stage: the number of a class to context embeddings.

In half precision: what crosses the boundary is the wire value. Knows numbers and embeddings; not
what a class means.
"""

import time
from collections.abc import Iterator, Mapping

import numpy as np

from cascade.engine import Engine
from cascade.errors import StageError
from cascade.events import Backend, Event, StageFinished
from cascade.graph_spec import NET
from cascade.labels.spec import LabelEncoderSpec, check_label
from cascade.request import GenerateRequest, Handoff


class LabelEncoderStage:
    """Runs the exported label encoder."""

    def __init__(
        self, spec: LabelEncoderSpec, engine: Engine, computed: Backend | None = None
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._computed = computed

    @property
    def names(self) -> tuple[str, ...]:
        """The one component it runs."""
        return (self._spec.name,)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """What runs its one graph, under the role `net`."""
        return {NET: self._engine}

    def with_engines(self, engines: Mapping[str, Engine]) -> "LabelEncoderStage":
        """The same stage on another engine; see `EngineStage.with_engines`."""
        return LabelEncoderStage(self._spec, engines[NET], self._computed)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Encode the handoff's label; see `Stage.run`."""
        del request
        label = check_label(self._spec, handoff.label)
        begun = time.perf_counter()
        whole = self._engine.run({"label": np.array([label], np.int64)})["context"][0]
        if whole.shape != (self._spec.tokens, self._spec.makes.width):
            raise StageError(f"context: unexpected shape {whole.shape}")
        # float16 here, on every side of every cut: the wire would round it, and this machine not.
        context = np.array(whole, np.float16)
        yield StageFinished(
            self._spec.name,
            Handoff(context=context, vectors=handoff.vectors),
            {self._spec.name: time.perf_counter() - begun},
            self._computed,
        )

    def terminate(self) -> None:
        """End the run in progress."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
