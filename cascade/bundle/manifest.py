"""The bundle's table of contents: what both halves of the cascade must agree on.

Records only: everything the runtime needs to know about a component is here and nothing of it is
special-cased in code. It does not open files; `cascade.bundle.bundle` does.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.boundary import BoundaryValue, Context, in_words, value_of, why_not_carried
from cascade.codecs.strict_json import canonical_json, from_json, to_json
from cascade.errors import ManifestError
from cascade.families import FAMILIES, family_of
from cascade.family import ComponentSpec
from cascade.graph_spec import FileEntry, GraphSpec
from cascade.vectors import check_there

FORMAT_VERSION = 3
"""Raised whenever an older reader would misread a newer manifest."""
GIVEN = frozenset({"prompt", "label", "image"})
"""What a request can give the first component."""
UPGRADED_FROM = "upgraded_from"
"""Key of `Manifest.provenance`: the bundle's id before `cascade upgrade` converted it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The whole table; `bundle_id` names the bundle."""

    format_version: int
    """3 in this format."""
    name: str
    """Of the bundle, for people."""
    licence: str
    """Of the weights, in a word or a sentence."""
    components: tuple[ComponentSpec, ...]
    """In the order of the work; of each, `family` decides what else its entry holds."""
    files: tuple[FileEntry, ...]
    """Every file of the folder but the manifest and its signature."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How the bundle came about; of it only `UPGRADED_FROM` is read."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_version(self.format_version)
        listed = {entry.name for entry in self.files}
        if len(listed) != len(self.files):
            raise ManifestError("manifest.files: a file is listed twice", field="manifest.files")
        if not self.components:
            raise ManifestError("manifest.components: none", field="manifest.components")
        for index, entry in enumerate(self.files):
            entry.check(f"manifest.files[{index}]")
        check_carried(self.components)
        for index, spec in enumerate(self.components):
            path = f"manifest.components[{index}]"
            for name in spec.files:
                if name not in listed:
                    raise ManifestError(
                        f"manifest.files: {name} is used but not listed", field="manifest.files"
                    )
            for role, graph in spec.graphs.items():
                graph.check(f"{path}.graphs.{role}")
                self.check_weights(graph, f"{path}.graphs.{role}.weights")
            family_of(spec).check(spec, path)
        if len({component.name for component in self.components}) != len(self.components):
            raise ManifestError("manifest.components: two components share a name")
        check_chain(self.components)

    def check_weights(self, graph: GraphSpec, path: str) -> None:
        """Refuse a file of weights that cannot be checked piece by piece.

        Raises:
            ManifestError: naming the field.
        """
        chunks = {entry.name: entry.chunks for entry in self.files}
        if graph.weights is not None and not chunks.get(graph.weights):
            raise ManifestError(
                f"{path}: {graph.weights} is listed without the sha256 of its chunks", field=path
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id that names this bundle: its own, then the one before an upgrade."""
        before = self.provenance.get(UPGRADED_FROM)
        return (self.bundle_id, before) if isinstance(before, str) else (self.bundle_id,)

    @property
    def bundle_id(self) -> str:
        """sha256 over the canonical manifest; covers every file through its hash."""
        return hashlib.sha256(canonical(self)).hexdigest()

    def position(self, name: str) -> int:
        """Place of a component in the cascade.

        Raises:
            ManifestError: no component has that name.
        """
        names = [component.name for component in self.components]
        if name not in names:
            raise ManifestError(f"no component {name!r}; this bundle has {', '.join(names)}")
        return names.index(name)


def check_version(version: object) -> None:
    """Refuse a manifest of another format.

    Raises:
        ManifestError: naming what makes one of this format of it.
    """
    if version == FORMAT_VERSION:
        return
    remedy = "run `cascade upgrade BUNDLE`" if version == 2 else "update edge-cascade"
    raise ManifestError(
        f"manifest.format_version: this reader knows {FORMAT_VERSION}, the bundle has "
        f"{str(version)[:20]}: {remedy} or export the bundle again",
        field="manifest.format_version",
    )


def check_carried(components: Sequence[ComponentSpec]) -> None:
    """Refuse values that cross no boundary: whoever wrote them would learn it at the last stage.

    Raises:
        ManifestError: naming the field.
    """
    for index, spec in enumerate(components):
        path = f"manifest.components[{index}]"
        starts = [(f"{path}.starts_from", value) for value in spec.starts_from]
        for field_path, value in (*starts, (f"{path}.makes", spec.makes)):
            why = why_not_carried(value)
            if why:
                raise ManifestError(f"{field_path}: {value}: {why}", field=field_path)


def check_chain(components: Sequence[ComponentSpec]) -> None:
    """Refuse components of which one does not start from what is there.

    The first one starts from what a request can give: a prompt, a label, a picture or nothing.
    Every other one starts from what the one before it makes, and perhaps from what was there
    before that.

    Raises:
        ManifestError: naming the field.
    """
    there: dict[str, BoundaryValue] = {}
    made: BoundaryValue | None = None
    for index, spec in enumerate(components):
        path = f"manifest.components[{index}].starts_from"
        for value in spec.starts_from:
            if index == 0 and value.kind in GIVEN:
                there[value.kind] = value
            # Compared as values: 64x64 of 256 levels is not 64x64 of 8, whatever their sizes say.
            if there.get(value.kind) != value:
                found = there.get(value.kind, "nothing of that kind")
                raise ManifestError(f"{path}: expected {found}, got {value}", field=path)
        if made is not None and made not in spec.starts_from:
            raise ManifestError(
                f"{path}: expected {made}, which {components[index - 1].name} makes, got "
                f"{in_words(spec.starts_from)}",
                field=path,
            )
        made = spec.makes
        # Later ones of a kind hide earlier ones: a stage sees the last picture, and still the text.
        there[made.kind] = made
    check_passed_on(components)
    check_there(
        (f"manifest.components[{index}]", family_of(spec).vectors(spec))
        for index, spec in enumerate(components)
    )


def check_passed_on(components: Sequence[ComponentSpec]) -> None:
    """Refuse an autoencoder that loses the embeddings of a component after it.

    A server that begins with a component is sent what that one starts from, and nothing for those
    after it.

    Raises:
        ManifestError: naming the field.
    """
    needed: BoundaryValue | None = None
    for index, spec in reversed(list(enumerate(components))):
        words = value_of(Context, spec.starts_from)
        if spec.makes == needed:
            needed = None
        latents = {spec.makes.kind, *(value.kind for value in spec.starts_from)} & {"tensor"}
        if latents and needed is not None and words is None:
            path = f"manifest.components[{index}].starts_from"
            raise ManifestError(
                f"{path}: {spec.name} comes before a component that starts from {needed}: name "
                "them, so that they are passed on",
                field=path,
            )
        needed = words or needed


def canonical(manifest: Manifest) -> bytes:
    """The one way to write a manifest as bytes: keys sorted, no spaces, ASCII."""
    return canonical_json(to_json(manifest))


def write_manifest(manifest: Manifest) -> str:
    """A manifest for people: the same content, indented."""
    return json.dumps(to_json(manifest), sort_keys=True, indent=1) + "\n"


def read_manifest(text: bytes) -> Manifest:
    """A manifest from the bytes of its file.

    Raises:
        ManifestError: not JSON, or any field unknown, missing or wrong.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"manifest.json is not JSON: {exc}") from exc
    return manifest_from(value)


def manifest_from(value: Any) -> Manifest:
    """A manifest from parsed JSON; see `read_manifest`."""
    if isinstance(value, dict) and "format_version" in value:
        check_version(value["format_version"])
    components = value.get("components") if isinstance(value, dict) else None
    if not isinstance(components, list):
        return from_json(Manifest, value)
    read = tuple(
        read_component(item, f"manifest.components[{index}]")
        for index, item in enumerate(components)
    )
    return from_json(Manifest, value, read={"components": read})


def read_component(value: Any, path: str) -> ComponentSpec:
    """One component's entry, read as its family's record.

    Raises:
        ManifestError: the family is unknown, or any field unknown, missing or wrong.
    """
    if isinstance(value, dict) and "family" not in value:
        raise ManifestError(f"{path}.family: missing", field=f"{path}.family")
    word = value.get("family") if isinstance(value, dict) else None
    family = FAMILIES.get(word) if isinstance(word, str) else None
    if family is None:
        raise ManifestError(
            f"{path}.family: expected one of {', '.join(FAMILIES)}, got {str(word)[:80]!r}",
            field=f"{path}.family",
        )
    spec: ComponentSpec = from_json(family.spec_type, value, path)
    return spec
