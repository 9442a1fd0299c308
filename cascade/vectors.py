"""Vectors that condition a picture beside its context: pooled text, sizes, embeddings of any kind.

A component names those that its graph reads. A request brings them, or the text encoder makes them
of the words; they cross every boundary as they are, in float32. Knows names and widths; neither
what a vector means, nor who computed it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cascade.errors import InvalidRequest, ManifestError
from cascade.graph_spec import LEFT_OUT, GraphSpec, TensorSpec
from cascade.types import Array, Vector
from cascade.vector_values import MAX_VECTOR_WIDTH, MAX_VECTORS, SHOWN, VECTOR_NAME

RESERVED = frozenset(
    {"x_t", "t", "context", "context_mask", "low_res", "aug_level", "guidance", "token_ids",
     "token_mask", "label", "prediction", "variance"}
)  # fmt: skip
"""Inputs and outputs that mean something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorSpec:
    """One vector that a component reads, as the input `[batch, width]` float32 of its name."""

    name: str
    """1 to 40 of `[a-z0-9_]`, a letter first."""
    width: int
    """Numbers."""
    source: Literal["request", "words"] = "request"
    """Who brings it: the caller, or the text encoder, which makes it of the words."""
    default: tuple[float, ...] = field(default=(), metadata=LEFT_OUT)
    """What stands where the caller brings none; left out where one has to."""
    unconditional: Literal["kept", "zeros"] = "kept"
    """What the unconditional half of a guided run is asked with: the same numbers, or zeros."""


@dataclass(frozen=True, slots=True)
class VectorUse:
    """Which vectors a component reads, and which it makes."""

    reads: tuple[VectorSpec, ...] = ()
    makes: Mapping[str, int] = field(default_factory=dict)
    """Widths by name."""


NO_VECTORS = VectorUse()


def check_read(vectors: tuple[VectorSpec, ...], graph: GraphSpec, path: str) -> None:
    """Refuse vectors that the graph does not take so.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if len(vectors) > MAX_VECTORS:
        raise ManifestError(
            f"{path}.vectors: at most {MAX_VECTORS}, got {len(vectors)}", field=f"{path}.vectors"
        )
    for index, spec in enumerate(vectors):
        place = f"{path}.vectors[{index}]"
        check_name(spec.name, spec.width, place)
        if spec.name in {other.name for other in vectors[:index]}:
            raise ManifestError(f"{place}.name: {spec.name} is there twice", field=f"{place}.name")
        if spec.default and (len(spec.default) != spec.width or spec.source == "words"):
            raise ManifestError(
                f"{place}.default: expected {spec.width} numbers of a vector that a request "
                f"brings, got {len(spec.default)}",
                field=f"{place}.default",
            )
        check_tensor(spec.name, spec.width, graph.inputs, f"{place}.width")


def check_made(widths: Mapping[str, int], graph: GraphSpec, path: str) -> None:
    """Refuse vectors that the graph does not give so.

    Raises:
        ManifestError: naming the field under `path`.
    """
    for name, width in widths.items():
        place = f"{path}.vectors.{name[:SHOWN]}"
        check_name(name, width, place)
        check_tensor(name, width, graph.outputs, place)


def check_name(name: str, width: int, place: str) -> None:
    """Refuse a name that is taken or cannot be written everywhere, and a width out of bounds."""
    if not VECTOR_NAME.fullmatch(name) or name in RESERVED:
        raise ManifestError(
            f"{place}.name: expected 1 to 40 of [a-z0-9_], a letter first, and none of "
            f"{', '.join(sorted(RESERVED))}; got {name[:SHOWN]!r}",
            field=f"{place}.name",
        )
    if not 1 <= width <= MAX_VECTOR_WIDTH:
        raise ManifestError(
            f"{place}.width: expected 1 to {MAX_VECTOR_WIDTH}, got {width}", field=f"{place}.width"
        )


def check_tensor(name: str, width: int, tensors: Iterable[TensorSpec], place: str) -> None:
    """Refuse a graph without a tensor `[batch, width]` float32 of that name."""
    found = [tensor for tensor in tensors if tensor.name == name]
    fits = [t for t in found if t.dtype == "float32" and t.shape[1:] == (width,)]
    if not fits:
        shape = f"{list(found[0].shape)} {found[0].dtype}" if found else "none of that name"
        raise ManifestError(
            f"{place}: expected {name} [batch, {width}] float32 in its graph, got {shape}",
            field=place,
        )


def check_there(uses: Iterable[tuple[str, VectorUse]]) -> None:
    """Refuse components of which one reads a vector of the words that nothing before it makes.

    Args:
        uses: of all components in order, each with its path.

    Raises:
        ManifestError: naming the field.
    """
    made: dict[str, int] = {}
    widths: dict[str, int] = {}
    for path, use in uses:
        for index, spec in enumerate(use.reads):
            place = f"{path}.vectors[{index}]"
            if (made.get(spec.name) == spec.width) != (spec.source == "words"):
                there = ", ".join(f"{name} of {width}" for name, width in made.items()) or "none"
                raise ManifestError(
                    f"{place}.source: {spec.source}, and of the words are made: {there}",
                    field=f"{place}.source",
                )
            if widths.setdefault(spec.name, spec.width) != spec.width:
                raise ManifestError(
                    f"{place}.width: expected {widths[spec.name]} as before, got {spec.width}",
                    field=f"{place}.width",
                )
        made.update(use.makes)


def check_given(
    uses: Iterable[tuple[str, VectorUse]], given: Mapping[str, Vector], *, wordless: bool = False
) -> None:
    """Refuse vectors that nothing reads, and the lack of one that something needs.

    Args:
        uses: of the components that run, in order, each with its name.
        given: what the work starts with, `[width]` float32 each.
        wordless: whether it has no words, so that nothing is made of them.

    Raises:
        InvalidRequest: naming the vector.
    """
    known: dict[str, VectorSpec] = {}
    made: set[str] = set()
    for name, use in uses:
        for spec in use.reads:
            known.setdefault(spec.name, spec)
            missing = spec.name not in given and spec.name not in made and not spec.default
            if missing and not (wordless and spec.source == "words"):
                raise InvalidRequest(
                    f"vectors.{spec.name}: {name} needs {spec.width} numbers of that name",
                    field=f"vectors.{spec.name}",
                )
        made |= set(use.makes)
    for name, vector in given.items():
        field_name = f"vectors.{name[:SHOWN]}"
        if name in made:
            raise InvalidRequest(
                f"{field_name}: it is made of the words: leave it out", field=field_name
            )
        if name not in known:
            listed = ", ".join(f"{n} of {spec.width}" for n, spec in known.items()) or "none"
            raise InvalidRequest(
                f"{field_name}: nothing that runs reads it; there are {listed}", field=field_name
            )
        check_width(vector, known[name])


def check_width(vector: Vector, spec: VectorSpec) -> None:
    """Raise `InvalidRequest` unless a vector is `[width]` of the declared width."""
    if vector.shape != (spec.width,):
        raise InvalidRequest(
            f"vectors.{spec.name}: expected {spec.width} numbers, got {list(vector.shape)}",
            field=f"vectors.{spec.name}",
        )


def vector_inputs(
    name: str, specs: Iterable[VectorSpec], given: Mapping[str, Vector], *, wordless: bool = False
) -> dict[str, Array]:
    """The vectors that a graph reads, each `[1, width]` float32.

    Args:
        name: of the component, for errors.
        specs: what it reads.
        given: what there is, `[width]` float32.
        wordless: whether there are no words; zeros stand for what is made of them.

    Raises:
        InvalidRequest: one is missing, or of another width.
    """
    inputs: dict[str, Array] = {}
    for spec in specs:
        vector = given.get(spec.name)
        if vector is None and spec.default:
            vector = np.array(spec.default, np.float32)
        if vector is None and wordless and spec.source == "words":
            vector = np.zeros(spec.width, np.float32)
        if vector is None:
            raise InvalidRequest(
                f"vectors.{spec.name}: {name} needs {spec.width} numbers of that name",
                field=f"vectors.{spec.name}",
            )
        check_width(vector, spec)
        inputs[spec.name] = vector[None]
    return inputs


def blank_vectors(specs: Iterable[VectorSpec]) -> dict[str, Vector]:
    """What stands for any vectors, `[width]` float32: the defaults, or zeros."""
    return {spec.name: np.array(spec.default or np.zeros(spec.width), np.float32) for spec in specs}


def vector_words(spec: VectorSpec) -> str:
    """One vector for people: its name, its width, where it comes from."""
    brought = "of the words" if spec.source == "words" else "of the request"
    default = ", has a default" if spec.default else ""
    zeros = ", zeros without the words" if spec.unconditional == "zeros" else ""
    return f"{spec.name}, {spec.width} numbers {brought}{default}{zeros}"


def unconditional_half(
    inputs: Mapping[str, Array], specs: Iterable[VectorSpec]
) -> dict[str, Array]:
    """A doubled batch whose second half has zeros for the vectors that say so.

    Args:
        inputs: of a graph, `[2 * B, ...]` float32 each; none is written to.
        specs: what the graph reads.
    """
    asked = dict(inputs)
    for spec in specs:
        if spec.unconditional == "zeros":
            vector = inputs[spec.name]
            asked[spec.name] = np.concatenate(
                [vector[: len(vector) // 2], 0 * vector[len(vector) // 2 :]]
            )
    return asked
