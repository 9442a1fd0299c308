"""The bundle's table of contents: what both halves of the cascade must agree on.

Records only: everything the runtime needs to know about a component is here and nothing of it is
special-cased in code. It does not open files; `cascade.bundle.bundle` does.
"""

import hashlib
import json
from dataclasses import dataclass

from cascade.codecs.strict_json import canonical_json, from_json, to_json
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import ManifestError
from cascade.families import family_of
from cascade.graph_spec import FileEntry
from cascade.precision import Precision
from cascade.text.spec import TextEncoderSpec

FORMAT_VERSION = 2
"""Raised whenever an older reader would misread a newer manifest."""

Component = TextEncoderSpec | DiffusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The whole table; `bundle_id` names the bundle."""

    format_version: int
    name: str
    licence: str
    provenance: str
    text_encoder: TextEncoderSpec
    stages: tuple[DiffusionSpec, ...]
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.format_version != FORMAT_VERSION:
            raise ManifestError(
                f"manifest.format_version: this reader knows {FORMAT_VERSION}, the bundle has "
                f"{self.format_version}: update edge-cascade or export the bundle again",
                field="manifest.format_version",
            )
        listed = {entry.name for entry in self.files}
        if len(listed) != len(self.files):
            raise ManifestError("manifest.files: a file is listed twice", field="manifest.files")
        needed: list[str] = []
        for component in self.components:
            needed.extend(component.files)
        for name in needed:
            if name not in listed:
                raise ManifestError(
                    f"manifest.files: {name} is used but not listed", field="manifest.files"
                )
        self._check_variants()
        self._check_chain()
        for index, stage in enumerate(self.stages):
            family_of(stage).check(stage, f"manifest.stages[{index}]")

    def _check_variants(self) -> None:
        """One file per precision, and none that calls itself another float32."""
        for component in self.components:
            found = [Precision.FP32, *(v.precision for v in component.graph.variants)]
            if len(set(found)) != len(found):
                raise ManifestError(
                    f"{component.name}: two files of one precision: {', '.join(found)}",
                    field=f"{component.name}.graph.variants",
                )

    def _check_chain(self) -> None:
        """Every stage starts where the one before it ended."""
        before: int | None = None
        for index, stage in enumerate(self.stages):
            if stage.input_resolution != before:
                raise ManifestError(
                    f"manifest.stages[{index}].input_resolution: expected {before}, got "
                    f"{stage.input_resolution}",
                    field=f"manifest.stages[{index}].input_resolution",
                )
            before = stage.output_resolution
        if len({component.name for component in self.components}) != len(self.components):
            raise ManifestError("manifest.stages: two components share a name")

    @property
    def components(self) -> tuple[Component, ...]:
        """All components in order, the text encoder first."""
        return (self.text_encoder, *self.stages)

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
    return from_json(Manifest, value)
