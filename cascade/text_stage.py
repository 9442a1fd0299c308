"""The text encoder as a stage: prompt to context embeddings.

Only the real tokens leave it, in half precision: what crosses the boundary is the wire value. Knows
tokens and embeddings; not images.
"""

import time
from collections.abc import Iterator

import numpy as np

from cascade.engines.engine import Engine
from cascade.errors import InvalidRequest, StageError
from cascade.events import Event, StageFinished
from cascade.manifest import TextEncoderSpec
from cascade.request import GenerateRequest, Handoff
from cascade.tokenizer import PromptTokenizer


class TextEncoderStage:
    """Runs the exported text encoder."""

    def __init__(self, spec: TextEncoderSpec, tokenizer: PromptTokenizer, engine: Engine) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        self._engine = engine

    @property
    def names(self) -> tuple[str, ...]:
        """The one component it runs."""
        return (self._spec.name,)

    def anticipate(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Encode the handoff's prompt; see `Stage.run`."""
        del request
        if handoff.prompt is None:
            raise InvalidRequest("prompt: the text encoder needs one", field="prompt")
        begun = time.perf_counter()
        ids = self._tokenizer(handoff.prompt)[None]
        tokenised = time.perf_counter()
        outputs = self._engine.run({"token_ids": ids, "token_mask": np.ones(ids.shape, np.float32)})
        context = outputs["context"][0].astype(np.float16)
        if context.shape != (ids.shape[1], self._spec.context_width):
            raise StageError(f"context: unexpected shape {context.shape}")
        encoded = time.perf_counter()
        yield StageFinished(
            self._spec.name,
            Handoff(prompt=handoff.prompt, context=context),
            {"tokenise": tokenised - begun, "encode": encoded - tokenised},
        )

    def terminate(self) -> None:
        """End the run in progress."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
