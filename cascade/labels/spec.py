"""What the manifest records of a label encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.boundary import BoundaryValue, Context, Label, in_words, value_of
from cascade.errors import InvalidRequest, ManifestError
from cascade.graph_spec import NET, GraphSpec

NAME_CHARACTERS = 100
"""Of a class, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelEncoderSpec:
    """The component that turns the number of a class into a context."""

    name: str
    """Unique in the bundle."""
    family: Literal["label"]
    """Names this record."""
    graphs: Mapping[str, GraphSpec]
    """The one graph, under the role `net`: from `label`, `[batch]` int64, to `context`,
    `[batch, tokens, width]`: a row of a table, say, or a one-hot vector."""
    starts_from: tuple[BoundaryValue, ...]
    """A label, and how many classes there are."""
    makes: Context
    """Embeddings, and how wide they are."""
    tokens: int = 1
    """Rows of the context."""
    class_names: tuple[str, ...] = ()
    """Of the classes in order, each once; empty where they have numbers alone."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it came about; nothing that runs reads it."""

    @property
    def graph(self) -> GraphSpec:
        """Its one graph."""
        return self.graphs[NET]

    @property
    def classes(self) -> int:
        """How many there are."""
        label = value_of(Label, self.starts_from)
        return 0 if label is None else label.classes

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return tuple(file for graph in self.graphs.values() for file in graph.all_files)


def check_record(spec: LabelEncoderSpec, path: str) -> None:
    """Refuse a record of another kind of component.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if set(spec.graphs) != {NET}:
        raise ManifestError(
            f"{path}.graphs: expected one under {NET!r}, got {', '.join(spec.graphs) or 'none'}",
            field=f"{path}.graphs",
        )
    if len(spec.starts_from) != 1 or spec.classes < 1:
        raise ManifestError(
            f"{path}.starts_from: expected a label of at least one class, got "
            f"{in_words(spec.starts_from)}",
            field=f"{path}.starts_from",
        )
    names = {tensor.name for tensor in spec.graph.inputs}
    if names != {"label"}:
        raise ManifestError(
            f"{path}.graphs: expected the input label, got {', '.join(sorted(names)) or 'none'}",
            field=f"{path}.graphs",
        )
    if spec.tokens < 1:
        raise ManifestError(
            f"{path}.tokens: expected at least 1, got {spec.tokens}", field=f"{path}.tokens"
        )
    known = spec.class_names
    fits = len(known) == spec.classes == len(set(known))
    if known and not (fits and all(0 < len(name) <= NAME_CHARACTERS for name in known)):
        raise ManifestError(
            f"{path}.class_names: expected {spec.classes} names of 1 to {NAME_CHARACTERS} "
            f"characters, each once, or none; got {len(known)}",
            field=f"{path}.class_names",
        )


def check_label(spec: LabelEncoderSpec, label: int | None) -> int:
    """The number of a class that there is.

    Raises:
        InvalidRequest: there is none, or it is beyond the last.
    """
    if label is None:
        raise InvalidRequest(
            f"label: {spec.name} needs one, 0 to {spec.classes - 1}", field="label"
        )
    if not 0 <= label < spec.classes:
        raise InvalidRequest(
            f"label: {spec.name} has {spec.classes} classes, expected 0 to {spec.classes - 1}, "
            f"got {label}",
            field="label",
        )
    return label


def class_number(spec: LabelEncoderSpec, word: str) -> int:
    """The number of a class by its name, or as digits.

    Raises:
        InvalidRequest: no class is called so.
    """
    if word in spec.class_names:
        return spec.class_names.index(word)
    if word.isdecimal() and word.isascii():
        return check_label(spec, int(word))
    some = ", ".join(spec.class_names[:10]) or f"numbers from 0 to {spec.classes - 1}"
    raise InvalidRequest(f"label: {spec.name} has no class {word[:64]!r}; there are {some}",
                         field="label")  # fmt: skip
