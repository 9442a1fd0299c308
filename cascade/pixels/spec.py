"""What the manifest records of a stage of pixels by groups, and which choices do not go together.

The networks are two graphs: the body, run once per pass, and the heads, run once per channel.
docs/explanation/pixels.md has their inputs and outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.boundary import BoundaryValue, Context, Image, in_words, value_of
from cascade.errors import ManifestError
from cascade.graph_spec import GraphSpec, TensorSpec
from cascade.pixels.logits import DIGIT, Arithmetic
from cascade.pixels.order import group_targets, largest
from cascade.pixels.planes import BITS
from cascade.pixels.request_options import LIMITS
from cascade.pixels.scheme import CHANNELS, PassScheme, refused
from cascade.pixels.weights import LOGIT_UNIT, UNIT_SIXTEENTHS, WEIGHT_TABLE_SHA256

PASS, HEADS = "pass", "heads"
"""Roles of the graphs."""
FREE_INPUTS = frozenset({"context", "context_mask", "aug_level"})
"""Inputs that a body may have or not."""
TEXT_PADDING = {"tokens": "context_mask"}
"""`GraphSpec.padded_by` of a body with a mask, whose texts may be of any length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelAugmentation:
    """The level that the body is told: how much was falsified of what it saw in training."""

    lowest: float
    """Least level that a request may choose, from 0."""
    highest: float
    """Largest level that a request may choose, up to 1."""
    default: float
    """Level of a request that chooses none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSpec:
    """A stage that makes its picture by groups of pixels."""

    name: str
    """Unique in the bundle."""
    family: Literal["pixels"]
    """Names this record."""
    graphs: Mapping[str, GraphSpec]
    """The body under the role `pass`, the heads under `heads`."""
    starts_from: tuple[BoundaryValue, ...]
    """Text embeddings, and the picture that is the parent."""
    makes: Image
    """A picture, and its size."""
    scheme: PassScheme
    """How the picture is divided into passes."""
    arithmetic: Arithmetic
    """`exact`: both graphs give the same bits on every engine, in float32 alone."""
    logit_unit: int = LOGIT_UNIT
    """Logits per nat."""
    weight_table_sha256: str = WEIGHT_TABLE_SHA256
    """Of the table from distances of logits to weights."""
    temperature_16: int = UNIT_SIXTEENTHS
    """Default in sixteenths, 1 to 64; 16 draws by the network's own weights."""
    floor_16: int = 0
    """Default in sixteenths of the largest weight, 0 to 16: what weighs less is ruled out."""
    guidance_16: int = UNIT_SIXTEENTHS
    """Default weight of guidance on logits in sixteenths, 0 to 160; 16 is none."""
    augmentation: PixelAugmentation | None = None
    """Where the body takes the level."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the exporter, such as bits per value of held-out pictures; nothing reads it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it came about; nothing that runs reads it."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.makes.height, self.makes.width

    @property
    def small(self) -> tuple[int, int] | None:
        """Height and width of the parent."""
        low = value_of(Image, self.starts_from)
        return None if low is None else (low.height, low.width)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the component."""
        return tuple(name for graph in self.graphs.values() for name in graph.all_files)


def check_choices(spec: PixelSpec, path: str) -> None:
    """Refuse choices of one stage that contradict each other.

    Raises:
        ManifestError: naming the field under `path`.
    """
    if set(spec.graphs) != {PASS, HEADS}:
        raise refused(f"{path}.graphs", f"{PASS!r} and {HEADS!r}", sorted(spec.graphs))
    check_boundary(spec, path)
    spec.scheme.check(f"{path}.scheme")
    spec.scheme.check_sizes(spec.size, spec.small, path)
    table = spec.logit_unit, spec.weight_table_sha256
    if table != (LOGIT_UNIT, WEIGHT_TABLE_SHA256):
        raise refused(
            f"{path}.weight_table_sha256",
            f"{LOGIT_UNIT} logits per nat and the table {WEIGHT_TABLE_SHA256[:12]}",
            f"{spec.logit_unit} and {spec.weight_table_sha256[:12]}",
        )
    for name, (least, most) in LIMITS.items():
        if not least <= getattr(spec, name) <= most:
            raise refused(f"{path}.{name}", f"{least} to {most}", getattr(spec, name))
    takes = {tensor.name for tensor in spec.graphs[PASS].inputs}
    if spec.guidance_16 != UNIT_SIXTEENTHS and "context_mask" not in takes:
        raise refused(f"{path}.guidance_16", f"{UNIT_SIXTEENTHS} without a text", spec.guidance_16)
    if (spec.augmentation is not None) != ("aug_level" in takes):
        raise refused(f"{path}.augmentation", "one exactly where the body takes aug_level", takes)
    check_graphs(spec, path)


def check_boundary(spec: PixelSpec, path: str) -> None:
    """Refuse what this family cannot start from or make.

    Raises:
        ManifestError: naming the field under `path`.
    """
    takes = {tensor.name: tensor for tensor in spec.graphs[PASS].inputs}
    for kind, name in ((Context, "context"), (Image, "low_res")):
        given = sum(isinstance(value, kind) for value in spec.starts_from)
        if given != (name in takes):
            raise refused(
                f"{path}.starts_from",
                f"what the body takes ({', '.join(takes)})",
                in_words(spec.starts_from),
            )
    if any(not isinstance(value, Context | Image) for value in spec.starts_from):
        raise refused(f"{path}.starts_from", "embeddings, a picture", in_words(spec.starts_from))
    text = value_of(Context, spec.starts_from)
    if text is not None and takes["context"].shape[-1] != text.width:
        raise refused(f"{path}.starts_from", f"{text}", takes["context"].shape)
    pictures = [spec.makes, *(v for v in spec.starts_from if isinstance(v, Image))]
    if any((p.levels, p.channels) != (1 << BITS, len(CHANNELS)) for p in pictures):
        raise refused(f"{path}.makes", "pictures of 3 channels and 256 levels", spec.makes)


def check_graphs(spec: PixelSpec, path: str) -> None:
    """Refuse graphs whose inputs and outputs are not those of the family, or not exact.

    Raises:
        ManifestError: naming the field under `path`.
    """
    for role in (PASS, HEADS):
        graph = spec.graphs[role]
        # How weights are stored is free: they are widened without loss and computed in float32.
        if spec.arithmetic == "exact" and (graph.variants or graph.gpu_forms):
            raise ManifestError(
                f"{path}.graphs.{role}: arithmetic is exact, so expected one file that computes in "
                "float32 and no variants: in another precision its pictures are others",
                field=f"{path}.graphs.{role}",
            )
        expected = expected_tensors(spec, role)
        found = [t for t in graph.inputs if t.name not in FREE_INPUTS], list(graph.outputs)
        for side, wanted, declared in zip(("inputs", "outputs"), expected, found, strict=True):
            if sorted(map(in_brackets, wanted)) != sorted(map(in_brackets, declared)):
                raise refused(
                    f"{path}.graphs.{role}.{side}",
                    ", ".join(map(in_brackets, wanted)),
                    ", ".join(map(in_brackets, declared)),
                )


def expected_tensors(spec: PixelSpec, role: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of a graph as they follow from the entry, without `FREE_INPUTS`."""
    scheme, (height, width) = spec.scheme, spec.size
    count = largest(group_targets(scheme.order, height, width))
    # The width of the features is the network's own business, as long as both graphs agree.
    widths = [t.shape[-1] for t in spec.graphs[PASS].outputs if t.name == "features"]
    features = tensor("features", "float32", count, *[w for w in widths if isinstance(w, int)])
    if role == PASS:
        flags = 3 if scheme.channel_passes == "passes" else 1
        body = [
            tensor("canvas", "float32", 3, height, width),
            tensor("known", "float32", flags, height, width),
            tensor("pass_index", "int64"),
            tensor("targets", "int64", count),
        ]
        if spec.small is not None:
            body.append(tensor("low_res", "float32", 3, *spec.small))
        return body, [features]
    asked = [features, tensor("earlier", "int64", count, 2)]
    whole = scheme.planes == (BITS,)
    answers = [tensor("high", "float32", count, DIGIT if whole else 1 << max(scheme.planes))]
    if whole:
        answers.append(tensor("low", "float32", count, DIGIT * DIGIT))
    if scheme.candidates:
        asked.append(tensor("match", "float32", count, scheme.candidates))
        answers.append(tensor("copy", "float32", count, scheme.candidates + 1))
    return asked, answers


def tensor(name: str, dtype: Literal["float32", "int64"], *shape: int) -> TensorSpec:
    """A tensor with a free batch axis."""
    return TensorSpec(name=name, dtype=dtype, shape=("batch", *shape))


def in_brackets(declared: TensorSpec) -> str:
    """`canvas [batch, 3, 8, 8] float32`."""
    return f"{declared.name} [{', '.join(map(str, declared.shape))}] {declared.dtype}"
