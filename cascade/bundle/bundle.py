"""A bundle on disk: opened strictly, read only through its hashes.

Opening checks the manifest, the list of files and their sizes; reading a file checks its sha256 and
hands out the very bytes that were checked. No parser of a third party sees a byte before that. Of a
file of weights only the chunks that a graph needs are read and checked, when that graph is.
A sparse bundle lacks files of components that run elsewhere; its id is that of the whole one.
Knows files; not what runs them.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cascade.bundle.manifest import Manifest, read_manifest
from cascade.codecs.onnx_files import refuse_external_data
from cascade.codecs.shared_initializers import attach_initializers
from cascade.errors import ManifestError
from cascade.graph_spec import FileEntry, GraphSpec
from cascade.precision import Precision
from cascade.system.bounded_files import NotPlain, open_plain
from cascade.weights.buffer import WeightBuffers, verify_chunks
from cascade.weights.references import check_references, find_references
from cascade.weights.source import ExternalGraph, GraphSource

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
MAX_SIGNATURE_BYTES = 1 << 10
MAX_MANIFEST_BYTES = 1 << 20
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A plain file name: no separator, no leading dot, so neither absolute nor `..`."""

UNLISTED = (MANIFEST_NAME, SIGNATURE_NAME)
"""What lies in a bundle beside the listed files."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle.

    Attributes:
        folder: where it lies.
        manifest: its table of contents.
        buffers: weights in memory, shared by all graphs that are read from this object.
        checked: names of files that were read whole, and their hashes checked. What is read once
            more is checked once more.
        ahead: graphs that were read to see what they take, by file, for who opens them next.
    """

    folder: Path
    manifest: Manifest
    buffers: WeightBuffers = field(default_factory=WeightBuffers, repr=False, compare=False)
    checked: set[str] = field(default_factory=set, repr=False, compare=False)
    ahead: dict[str, GraphSource] = field(default_factory=dict, repr=False, compare=False)

    @property
    def bundle_id(self) -> str:
        """The bundle's name for both sides of the wire."""
        return self.manifest.bundle_id

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, after its hash was checked.

        Raises:
            ManifestError: not listed, changed, a link, or an ONNX file with external data.
        """
        data = self.read_unparsed(name)
        # After the hash: a bundle that was signed with such a file is still refused.
        if name.endswith(".onnx"):
            refuse_external_data(data, name)
        return data

    def read_unparsed(self, name: str) -> bytes:
        """The bytes of one listed file, after its hash was checked; not for any parser yet.

        Raises:
            ManifestError: not listed, changed or a link.
        """
        entry = self.entry(name)
        self._require_file(name)
        # Read whole and hashed before anybody sees a byte: what is checked is what is used, even
        # if somebody writes to the file meanwhile.
        data = read_plain_file(self.folder / name, entry.size_bytes)
        if len(data) != entry.size_bytes:
            raise ManifestError(
                f"{name}: the manifest says {entry.size_bytes} bytes, the file has {len(data)}"
            )
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise ManifestError(f"{name}: sha256 is {found}, the manifest says {entry.sha256}")
        self.checked.add(name)
        return data

    def entry(self, name: str) -> FileEntry:
        """What the manifest says of a file.

        Raises:
            ManifestError: it is not listed.
        """
        found = next((e for e in self.manifest.files if e.name == name), None)
        if found is None:
            raise ManifestError(f"{name} is not listed in the manifest")
        return found

    def read_graph(self, graph: GraphSpec, precision: Precision) -> GraphSource:
        """The graph that computes in a precision, complete.

        A variant leaves out the weights that the float32 file holds; they are put back here.

        Raises:
            ManifestError: see `read_file_of`.
        """
        return self.read_file_of(graph, graph.file_for(precision))

    def read_file_of(self, graph: GraphSpec, name: str) -> GraphSource:
        """One of a graph's files, complete; weights beside it are read when an engine opens it.

        Raises:
            ManifestError: see `read`; a weight is in neither file, or does not lie exactly where
                the file of weights has it.
        """
        read = self.ahead.pop(name, None)
        if read is not None:
            return read
        if graph.weights is not None:
            return self._read_external(name, graph.weights)
        data = self.read(name)
        return (
            data if name == graph.file else attach_initializers(data, self.read(graph.file), name)
        )

    def read_ahead(self, graph: GraphSpec, name: str) -> GraphSource:
        """One of a graph's files, and the next `read_file_of` has it without another reading.

        Raises:
            ManifestError: see `read_file_of`.
        """
        source = self.read_file_of(graph, name)
        self.ahead[name] = source
        return source

    def _read_external(self, name: str, weights: str) -> GraphSource:
        """A graph and those of its weights that lie in a file of their own."""
        data = self.read_unparsed(name)
        references = find_references(data, name)
        self._require_file(weights)
        buffer = self.buffers.of(self.folder / weights, self.entry(weights))
        if references:
            check_references(references, buffer.tensors, name, weights)
        return ExternalGraph(data, tuple(references), buffer) if references else data

    def verify_files(
        self,
        positions: Iterable[int] | None = None,
        besides: Collection[str] = (),
        *,
        in_memory: bool = False,
    ) -> None:
        """Check files of the bundle; see `read`. Files of weights a chunk at a time.

        Args:
            positions: of the components whose files are checked; None checks every file.
            besides: names of files that are left out. Of a file of weights that an engine has open
                the chunks that it did not read are checked all the same, unless it is named too.
            in_memory: leave out chunks too that an engine has from another process, checked.
        """
        wanted = None if positions is None else tuple(positions)
        components = self.manifest.components
        specs = components if wanted is None else [components[at] for at in wanted]
        graphs = [graph for spec in specs for graph in spec.graphs.values() if graph.weights]
        checked = set(besides)
        for graph in graphs:
            weights = str(graph.weights)
            for name in set(graph.all_files) - {weights} - checked:
                if self.holds(weights):
                    self._read_external(name, weights)
                else:
                    self.read_unparsed(name)
                checked.add(name)
            if weights not in checked:
                buffer = self.buffers.of(self.folder / weights, self.entry(weights))
                known = buffer.checked if in_memory else buffer.read
                verify_chunks(self.folder / weights, self.entry(weights), known)
                checked.add(weights)
        for name in self.files_of(wanted):
            if name not in checked:
                self.read(name)

    def verify_present(self) -> None:
        """Check the files that are in the folder; see `verify_files`. Missing ones are no fault."""
        self.verify_files(besides=self.missing())

    def missing(self, positions: Iterable[int] | None = None) -> list[str]:
        """Names of listed files that are not in the folder, as the manifest lists them.

        Args:
            positions: of the components whose files are meant; None takes every file.
        """
        return [name for name in self.files_of(positions) if not self.holds(name)]

    def here(self) -> list[int]:
        """Positions of the components whose files are all in the folder."""
        return [at for at in range(len(self.manifest.components)) if self.has(at)]

    def files_of(self, positions: Iterable[int] | None = None) -> list[str]:
        """Names of the files of some components, each once, as the manifest lists them.

        Args:
            positions: of the components; None takes every file of the bundle.
        """
        if positions is None:
            return [entry.name for entry in self.manifest.files]
        wanted = {name for at in positions for name in self.manifest.components[at].files}
        return [entry.name for entry in self.manifest.files if entry.name in wanted]

    def has(self, position: int) -> bool:
        """Whether every file of a component is in the folder."""
        return self.holds(*self.files_of([position]))

    def holds(self, *names: str) -> bool:
        """Whether some listed files are in the folder."""
        return all(os.path.lexists(self.folder / name) for name in names)

    def require(self, positions: Iterable[int] | None = None) -> None:
        """Refuse a bundle that lacks files of components which are to run here; reads none.

        Args:
            positions: of those components; None requires every file.

        Raises:
            ManifestError: naming the file, the component and the command that gets it.
        """
        for name in self.files_of(positions):
            self._require_file(name)

    def _require_file(self, name: str) -> None:
        """Raise `ManifestError` for a listed file that is not there."""
        if os.path.lexists(self.folder / name):
            return
        of = [spec.name for spec in self.manifest.components if name in spec.files]
        part = f" --components {','.join(of)}" if of else ""
        raise ManifestError(
            f"{name} is listed in the manifest but missing, and "
            f"{' and '.join(of) or 'the bundle'} cannot run here without it: "
            f"`cascade bundle pull SERVER {self.folder}{part}` gets it"
        )


def open_bundle(
    folder: Path | str, signed_by: Path | None = None, runs: Iterable[int] | None = None
) -> Bundle:
    """Open a bundle.

    Args:
        folder: where it lies.
        signed_by: PEM file with the public key that must have signed it; None requires none.
        runs: positions of the components that run here, whose files must be there; None for all.

    Raises:
        ManifestError: the folder or its manifest is missing or wrong, a file is missing, extra, a
            link or of another size, or the signature that is wanted is missing or another one's.
        InvalidRequest: `signed_by` is no such key.
        MissingExtra: a signature is wanted, and what checks it is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder: give --bundle the folder of a bundle")
    data = read_plain_file(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    # Before parsing: a manifest of unknown origin does not reach the JSON parser.
    if signed_by is not None:
        require_signature(folder, data, signed_by)
    manifest = read_manifest(data)
    for entry in manifest.files:
        check_entry(entry)
    listed = {entry.name: entry for entry in manifest.files}
    found = {item.name: item for item in os.scandir(folder) if item.name not in UNLISTED}
    # A file that no hash covers could be what a library finds beside a listed one.
    extra = sorted(set(found) - set(listed))
    if extra:
        raise ManifestError(f"{extra[0]!r} lies in the bundle but is not listed: remove it")
    for name, entry in listed.items():
        item = found.get(name)
        if item is None:
            continue
        if item.is_symlink() or not item.is_file(follow_symlinks=False):
            raise ManifestError(f"{name} is not a plain file: bundles hold no links or folders")
        size = item.stat(follow_symlinks=False).st_size
        if size != entry.size_bytes:
            raise ManifestError(
                f"{name}: the manifest says {entry.size_bytes} bytes, the file has {size}"
            )
    bundle = Bundle(folder, manifest)
    bundle.require(runs)
    return bundle


def require_signature(folder: Path, manifest: bytes, public_key: Path) -> None:
    """Raise unless the bundle's signature is that of a key over its manifest.

    Args:
        folder: of the bundle.
        manifest: the very bytes that will be parsed.
        public_key: PEM file.

    Raises:
        ManifestError: it is missing, or another one's.
    """
    # Only a caller that requires signatures needs the package that checks them.
    from cascade.bundle.signature import check_signature  # noqa: PLC0415

    if not (folder / SIGNATURE_NAME).exists():
        raise ManifestError(
            f"{folder} is not signed: it has no {SIGNATURE_NAME}; `cascade sign` makes one"
        )
    signature = read_plain_file(folder / SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    check_signature(manifest, signature, public_key)


def check_entry(entry: FileEntry) -> None:
    """Refuse a listed name that could lead out of the folder, and a malformed hash."""
    if not SAFE_NAME.fullmatch(entry.name) or entry.name in UNLISTED:
        raise ManifestError(f"manifest.files: {entry.name!r} is not a plain file name")
    if not all(re.fullmatch(r"[0-9a-f]{64}", found) for found in (entry.sha256, *entry.chunks)):
        raise ManifestError(f"manifest.files: the sha256 of {entry.name} is malformed")


def read_plain_file(path: Path, limit: int) -> bytes:
    """The bytes of a file that is no link, and no longer than `limit`.

    Raises:
        ManifestError: missing, a link, not a plain file, or longer.
    """
    try:
        with open_plain(path) as file:
            data = file.read(limit + 1)
    except NotPlain as exc:
        raise ManifestError(f"{exc}: links are refused") from exc
    except OSError as exc:
        raise ManifestError(f"{path.name}: {exc.strerror}") from exc
    if len(data) > limit:
        raise ManifestError(f"{path.name}: longer than the {limit} bytes allowed")
    return data
