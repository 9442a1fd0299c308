"""What the manifest records of a text encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.boundary import BoundaryValue, Context, Prompt, in_words
from cascade.errors import ManifestError
from cascade.graph_spec import LEFT_OUT, NET, GraphSpec
from cascade.vectors import check_made


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderSpec:
    """The component that turns a prompt into a context."""

    name: str
    """Unique in the bundle."""
    family: Literal["text_encoder"]
    """Names this record."""
    graphs: Mapping[str, GraphSpec]
    """The one graph, under the role `net`."""
    starts_from: tuple[BoundaryValue, ...]
    """A prompt."""
    makes: Context
    """Embeddings, and how wide they are."""
    tokenizer_file: str
    """Name of the `tokenizer.json`."""
    max_tokens: int
    """Longest prompt in tokens, special ones included."""
    pad_token: int | None = None
    """Fills every prompt to `max_tokens` tokens, masked out, and the rows it leads to are part of
    the context: for stages trained to see them. None sends the real tokens alone."""
    vectors: Mapping[str, int] = field(default_factory=dict, metadata=LEFT_OUT)
    """Outputs `[batch, width]` float32 of the graph beside the context, by name and width: what
    stages read as vectors of the words, such as pooled text. Left out where there are none."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it came about; nothing that runs reads it."""

    @property
    def graph(self) -> GraphSpec:
        """Its one graph."""
        return self.graphs[NET]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return (*self.graph.all_files, self.tokenizer_file)


def check_record(spec: TextEncoderSpec, path: str) -> None:
    """Refuse a record of another kind of component.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if set(spec.graphs) != {NET}:
        raise ManifestError(
            f"{path}.graphs: expected one under {NET!r}, got {', '.join(spec.graphs) or 'none'}",
            field=f"{path}.graphs",
        )
    if spec.starts_from != (Prompt(),):
        raise ManifestError(
            f"{path}.starts_from: expected {Prompt()}, got {in_words(spec.starts_from)}",
            field=f"{path}.starts_from",
        )
    check_made(spec.vectors, spec.graph, path)
