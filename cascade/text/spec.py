"""What the manifest records of a text encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cascade.boundary import BoundaryValue, Context, Prompt
from cascade.graph_spec import NET, GraphSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderSpec:
    """The component that turns a prompt into a context."""

    name: str
    family: Literal["text_encoder"]
    graph: GraphSpec
    tokenizer_file: str
    max_tokens: int
    pad_token: int | None = None
    """Fills every prompt to `max_tokens` tokens, masked out, and the rows it leads to are part of
    the context: for stages trained to see them. None sends the real tokens alone."""
    context_width: int
    provenance: str

    @property
    def graphs(self) -> Mapping[str, GraphSpec]:
        """Its one graph."""
        return {NET: self.graph}

    @property
    def starts_from(self) -> tuple[BoundaryValue, ...]:
        """Words."""
        return (Prompt(),)

    @property
    def makes(self) -> Context:
        """Their embeddings."""
        return Context(width=self.context_width)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return (*self.graph.all_files, self.tokenizer_file)
