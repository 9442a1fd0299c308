"""What the manifest records of a text encoder."""

from dataclasses import dataclass
from typing import Literal

from cascade.graph_spec import GraphSpec


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
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return (*self.graph.all_files, self.tokenizer_file)
