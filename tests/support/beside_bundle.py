"""A bundle's other form: the same graphs, their weights moved into one file per component."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.graph_spec import FileEntry
from export.weights.beside import complete_files, move_weights

LEAST_BYTES = 64
"""Of a weight that is moved: those of the tests' networks are small."""


def move_beside(folder: Path) -> Bundle:
    """Move the weights of every component of a bundle, in place."""
    bundle = open_bundle(folder)
    listed = {entry.name: entry for entry in bundle.manifest.files}
    components = []
    for component in bundle.manifest.components:
        spec: Any = component
        files = {n: bundle.read(n) for graph in spec.graphs.values() for n in graph.all_files}
        weights = folder / f"{spec.name}.safetensors"
        complete = complete_files(spec.graphs.values(), files)
        moved = move_weights(complete, weights, least_bytes=LEAST_BYTES)
        if moved is None:
            components.append(spec)
            continue
        for name, data in moved.files.items():
            (folder / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            listed[name] = FileEntry(name=name, sha256=digest, size_bytes=len(data))
        listed[weights.name] = moved.entry
        graphs = {role: replace(graph, weights=weights.name) for role, graph in spec.graphs.items()}
        components.append(replace(spec, graphs=graphs))
    manifest = replace(bundle.manifest, components=tuple(components), files=tuple(listed.values()))
    (folder / "manifest.json").write_text(write_manifest(manifest))
    return open_bundle(folder)
