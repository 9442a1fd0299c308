"""The text encoder as a stage: prompt to context embeddings.

Only the real tokens leave it, unless the manifest says that the stages were trained to see padding
too, in half precision: what crosses the boundary is the wire value. Knows tokens and embeddings;
not images.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from cascade.engine import Engine
from cascade.errors import InvalidRequest, StageError
from cascade.events import Backend, Event, StageFinished
from cascade.graph_spec import NET
from cascade.numerics.finite import is_finite
from cascade.numerics.length_buckets import bucket_length
from cascade.request import GenerateRequest, Handoff
from cascade.text.spec import TextEncoderSpec
from cascade.text.tokenizer import PromptTokenizer
from cascade.types import Array, TokenIds, Vector


class Padding(Protocol):
    """How prompts are padded."""

    @property
    def pad_token(self) -> int | None:
        """Fills the rest; None for no padding."""
        ...

    @property
    def max_tokens(self) -> int:
        """Length after padding."""
        ...


class TextEncoderStage:
    """Runs the exported text encoder."""

    def __init__(
        self,
        spec: TextEncoderSpec,
        tokenizer: PromptTokenizer,
        engine: Engine,
        computed: Backend | None = None,
    ) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
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

    def with_engines(self, engines: Mapping[str, Engine]) -> "TextEncoderStage":
        """The same stage on another engine; see `EngineStage.with_engines`."""
        return TextEncoderStage(self._spec, self._tokenizer, engines[NET], self._computed)

    def prefetch(self, handoff: Handoff) -> None:
        """Nothing to prepare."""

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """Encode the handoff's prompt; see `Stage.run`."""
        del request
        if handoff.prompt is None:
            raise InvalidRequest("prompt: the text encoder needs one", field="prompt")
        begun = time.perf_counter()
        ids = self._tokenizer(handoff.prompt)
        inputs = token_inputs(ids, self._spec)
        tokenised = time.perf_counter()
        outputs = self._engine.run(inputs)
        whole = outputs["context"][0]
        if whole.shape != (inputs["token_ids"].shape[1], self._spec.makes.width):
            raise StageError(f"context: unexpected shape {whole.shape}")
        # float16 here, on every side of every cut: the wire would round it, and this machine not.
        context = np.array(kept_rows(whole, len(ids), self._spec), np.float16)
        encoded = time.perf_counter()
        yield StageFinished(
            self._spec.name,
            Handoff(
                prompt=handoff.prompt,
                context=context,
                vectors={**handoff.vectors, **made_vectors(outputs, self._spec.vectors)},
            ),
            {"tokenise": tokenised - begun, "encode": encoded - tokenised},
            self._computed,
        )

    def terminate(self) -> None:
        """End the run in progress."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


def token_inputs(ids: TokenIds, spec: Padding) -> dict[str, Array]:
    """Token numbers as the graph takes them, `[1, tokens]`, masked beyond the real ones.

    Filled with the manifest's token to the manifest's length where it says so, else with any token
    to a length of `cascade.numerics.length_buckets`.

    Args:
        ids: the real tokens, `[L]` int64, at most `spec.max_tokens` of them.
        spec: the text encoder's entry in the manifest, or what will become one.

    Returns:
        `token_ids` int64 and `token_mask` float32 (1 for real tokens), both `[1, tokens]`.
    """
    padded = spec.pad_token is not None
    length = spec.max_tokens if padded else bucket_length(len(ids), spec.max_tokens)
    missing = length - len(ids)
    mask = np.pad(np.ones(len(ids), np.float32), (0, missing))
    # Which token fills the rest makes no difference under the mask, unless the manifest names one.
    filled = np.pad(ids, (0, missing), constant_values=spec.pad_token or 0)
    return {"token_ids": filled[None], "token_mask": mask[None]}


def kept_rows(context: Array, tokens: int, spec: Padding) -> Array:
    """The embeddings that leave the stage: of the real tokens, or of the manifest's padding too.

    Args:
        context: of the whole graph, `[length, width]`.
        tokens: how many of its rows are real.
        spec: the text encoder's entry in the manifest, or what will become one.

    Returns:
        `[tokens, width]` of the same dtype, or all rows.
    """
    return context if spec.pad_token is not None else context[:tokens]


def made_vectors(outputs: Mapping[str, Array], widths: Mapping[str, int]) -> dict[str, Vector]:
    """The vectors that a graph made of one prompt, `[width]` float32 each.

    Args:
        outputs: of the graph, `[1, width]` each.
        widths: by name, as the manifest has them.

    Raises:
        StageError: one is of another shape, or not finite.
    """
    made = {name: np.array(outputs[name][0], np.float32) for name in widths}
    for name, vector in made.items():
        if vector.shape != (widths[name],) or not is_finite(vector):
            raise StageError(
                f"{name}: expected {widths[name]} finite numbers, got {list(vector.shape)}",
                field=name,
            )
    return made
