"""Forms for browsers added to a bundle that was exported without them. Needs no torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import Manifest
from cascade.codecs.shared_initializers import attach_initializers
from cascade.engines.ort import OrtEngine
from cascade.graph_spec import GraphSpec, ParityRecord, WebFormSpec
from export.bundle_folder import file_entries, write_bundle
from export.forms.verify import worst
from export.forms.web import web_form
from export.parity import compare_engines
from export.passes.gate import SIZES, synthetic_inputs


def add_web_forms(folder: Path) -> Manifest:
    """Write the forms that a bundle's graphs need into it; its id changes, its graphs do not.

    Graphs whose weights lie in a file beside them go without.

    Args:
        folder: of the bundle.

    Raises:
        ParityError: a form is too far from its graph.
        ValueError: an operator has a shape that the rewritings do not know.
    """
    bundle = open_bundle(folder)
    bundle.verify_files()
    listed = bundle.manifest.files
    files: dict[str, bytes | Path] = {entry.name: folder / entry.name for entry in listed}
    components = []
    component: Any  # of whatever family: all have graphs
    for component in bundle.manifest.components:
        graphs = dict(component.graphs)
        for role, graph in component.graphs.items():
            name = f"{Path(graph.file).stem}.web.onnx"
            stored = (folder / graph.file).read_bytes()
            data = None if graph.weights or graph.web_form else web_form(stored)
            if data is not None:
                parity = parity_of(graph, stored, attach_initializers(data, stored, name))
                files[name] = data
                graphs[role] = replace(graph, web_form=WebFormSpec(file=name, parity=parity))
        components.append(replace(component, graphs=graphs))
    manifest = replace(
        bundle.manifest, components=tuple(components), files=file_entries(files, listed)
    )
    write_bundle(folder, manifest, files)
    return manifest


def parity_of(graph: GraphSpec, stored: bytes, form: bytes) -> ParityRecord:
    """A bound of a form's distance from the torch network: that of its graph and their own."""
    model = onnx.load_from_string(stored)
    cases = [synthetic_inputs(model, sizes) for sizes in SIZES]
    original, engine = OrtEngine(stored), OrtEngine(form)
    records = [compare_engines(original, engine, cases, output.name) for output in graph.outputs]
    original.close()
    engine.close()
    own = max(records, key=worst)
    error = graph.parity.max_abs_error + own.max_abs_error
    psnr_db = min(graph.parity.psnr_db, own.psnr_db)
    return replace(own, max_abs_error=error, psnr_db=psnr_db)
