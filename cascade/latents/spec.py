"""What the manifest records of one half of an autoencoder: of an encoder, or of a decoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.boundary import BoundaryValue, Context, Image, Tensor, in_words, value_of
from cascade.errors import ManifestError
from cascade.graph_spec import NET, GraphSpec
from cascade.numerics.tile_joins import TiledSide, side

LEVELS = 256
"""Values of a channel: pictures are 8-bit."""
CHANNELS = 3
"""Of a picture: RGB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderSpec:
    """A component that makes a latent of a picture, or a picture of a latent, in one run."""

    name: str
    """Unique in the bundle."""
    family: Literal["encoder", "decoder"]
    """Names this record, and the way that it goes."""
    graphs: Mapping[str, GraphSpec]
    """The one network, under the role `net`: from `picture` `[batch, 3, H, W]` in [-1, 1] to
    `latent` `[batch, C, h, w]`, or the other way; float32, of fixed sides. A graph smaller than
    the component's picture is run on tiles of it."""
    starts_from: tuple[BoundaryValue, ...]
    """A picture of an encoder, a latent of a decoder; embeddings beside it are passed on."""
    makes: Image | Tensor
    """A latent of an encoder, a picture of a decoder."""
    scaling: float = 1.0
    """A latent is the network's, less `shift`, times this; a decoder undoes both."""
    shift: float = 0.0
    """See `scaling`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it came about; nothing that runs reads it."""

    @property
    def graph(self) -> GraphSpec:
        """Its one graph."""
        return self.graphs[NET]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return tuple(file for graph in self.graphs.values() for file in graph.all_files)

    @property
    def encodes(self) -> bool:
        """Whether it makes a latent of a picture, and not the other way."""
        return isinstance(self.makes, Tensor)

    @property
    def picture(self) -> Image | None:
        """Its picture, on whichever side."""
        return value_of(Image, (*self.starts_from, self.makes))

    @property
    def latent(self) -> Tensor | None:
        """Its latent `[channels, height, width]`, on whichever side."""
        return value_of(Tensor, (*self.starts_from, self.makes))

    @property
    def factor(self) -> int:
        """Pixels of the picture that one number of a latent's plane stands for, along one side."""
        picture, latent = self.picture, self.latent
        return 1 if picture is None or latent is None else picture.width // latent.width

    @property
    def tiles(self) -> tuple[TiledSide, TiledSide]:
        """Where the graph's runs lie in the latent, from the top and from the left."""
        taken = sides_of(self.graph, "latent") or (0, 0)
        latent = self.latent
        if latent is None:
            raise ManifestError(f"{self.name}: no latent", field="components")
        return side(latent.height, taken[0], 1), side(latent.width, taken[1], 1)


def sides_of(graph: GraphSpec, name: str) -> tuple[int, int] | None:
    """Height and width of an input or output of four axes; None where either is free."""
    shapes = [t.shape for t in (*graph.inputs, *graph.outputs) if t.name == name]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    height, width = shapes[0][2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def check_record(spec: AutoencoderSpec, path: str) -> None:
    """Refuse a record of another kind of component, or one that contradicts itself.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if set(spec.graphs) != {NET}:
        raise ManifestError(
            f"{path}.graphs: expected one under {NET!r}, got {', '.join(spec.graphs) or 'none'}",
            field=f"{path}.graphs",
        )
    beside = [value for value in spec.starts_from if not isinstance(value, Context)]
    wanted = Image if spec.encodes else Tensor
    if [type(value) for value in beside] != [wanted] or len(spec.starts_from) > 2:
        raise ManifestError(
            f"{path}.starts_from: {spec.family} {spec.name} expects one "
            f"{'picture' if spec.encodes else 'tensor'} and at most embeddings, got "
            f"{in_words(spec.starts_from)}",
            field=f"{path}.starts_from",
        )
    if not spec.scaling:
        raise ManifestError(f"{path}.scaling: expected not 0", field=f"{path}.scaling")
    check_sizes(spec, path)
    check_graph(spec, path)


def check_sizes(spec: AutoencoderSpec, path: str) -> None:
    """Refuse a picture that is no whole multiple of its latent.

    Raises:
        ManifestError: naming the field under `path`.
    """
    picture, latent, factor = spec.picture, spec.latent, spec.factor
    if picture is None or latent is None or picture.levels != LEVELS:
        raise ManifestError(
            f"{path}.makes.levels: this family reads and makes {LEVELS} levels",
            field=f"{path}.makes.levels",
        )
    multiple = (factor * latent.width, factor * latent.height)
    if factor < 1 or (picture.width, picture.height) != multiple:
        raise ManifestError(
            f"{path}.makes: a picture of {picture.width}x{picture.height} and a latent of "
            f"{latent.width}x{latent.height}: expected a whole multiple, the same both ways",
            field=f"{path}.makes",
        )


def check_graph(spec: AutoencoderSpec, path: str) -> None:
    """Refuse a graph of other inputs and outputs, or of sides that make no tiles.

    Raises:
        ManifestError: naming the field under `path`.
    """
    names = ("picture", "latent") if spec.encodes else ("latent", "picture")
    found = tuple(t.name for t in (*spec.graph.inputs, *spec.graph.outputs))
    if found != names:
        raise ManifestError(
            f"{path}.graphs: expected {names[0]} to {names[1]}, got {', '.join(found)}",
            field=f"{path}.graphs",
        )
    shapes = {t.name: t.shape for t in (*spec.graph.inputs, *spec.graph.outputs)}
    latent, factor = spec.latent, spec.factor
    small, large = (sides_of(spec.graph, name) for name in ("latent", "picture"))
    fits = (
        latent is not None
        and small is not None
        and large == (factor * small[0], factor * small[1])
        and 1 <= small[0] <= latent.height
        and 1 <= small[1] <= latent.width
        and (shapes["picture"][1], shapes["latent"][1]) == (CHANNELS, latent.channels)
    )
    if not fits:
        raise ManifestError(
            f"{path}.graphs: picture {list(shapes['picture'])} and latent "
            f"{list(shapes['latent'])} are no tile of {spec.picture} and {latent}",
            field=f"{path}.graphs",
        )
