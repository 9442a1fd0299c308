"""What a picture says about itself: all that was asked for and all that was taken.

Nothing in it depends on when or how fast it was made: the same command writes the same file. Knows
requests, results and the manifest; no format of pictures.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from cascade import __version__
from cascade.bundle.manifest import Manifest
from cascade.edit import Edit
from cascade.engines.kinds import MODULES, EngineKind
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.request import FamilyOptions, GenerateRequest
from cascade.tuning.records import installed_versions
from cascade.types import ImageU8, PlaneU8, Vector
from runtime_client.result import SERVER, Result

SOFTWARE = "edge-cascade"
LONGEST_VECTOR = 64
"""Numbers of a vector that a picture's text holds; of an embedding it holds the hash."""


def metadata_of(manifest: Manifest, request: GenerateRequest, result: Result) -> dict[str, Any]:
    """The metadata of a picture that this client had made, as plain JSON values."""
    last = manifest.position(request.last_stage or manifest.components[-1].name)
    taken = settings_of(manifest.components[: last + 1], request)
    return {
        "prompt": request.prompt or "",
        "seed": request.seed,
        "image_index": request.image_index,
        **start_of(request),
        **({} if request.negative is None else {"negative": request.negative}),
        "last_stage": manifest.components[last].name,
        "asked": {name: asked(options) for name, options in request.options.items()},
        **taken,
        "cut": result.cut,
        **made_by(manifest, result),
    }


def start_of(request: GenerateRequest) -> dict[str, Any]:
    """What a request begins with beside a prompt; nothing for most."""
    given: dict[str, Any] = {}
    if request.label is not None:
        given["label"] = request.label
    if request.picture is not None:
        given["start_pixels"] = pixels_digest(request.picture)
    if request.own_picture:
        given["own_picture"] = True
    if request.kept is not None:
        given["kept"] = f"{request.kept.stage} of {request.kept.request_id}"
    if request.size is not None:
        given["size"] = list(request.size)
    if request.edit is not None:
        given["edit"] = edit_words(request.edit)
    if request.vectors:
        given["vectors"] = {n: vector_words(vector) for n, vector in request.vectors.items()}
    if request.first_stage is not None:
        given["first_stage"] = request.first_stage
    return given


def vector_words(vector: Vector) -> list[float] | str:
    """The numbers of a vector `[width]` float32, of a long one what it hashes to."""
    if len(vector) <= LONGEST_VECTOR:
        return [float(number) for number in vector]
    return "sha256:" + hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest()


def edit_words(edit: Edit) -> dict[str, Any]:
    """What an edit was: digests of its pixels, and its numbers."""
    mask = None if edit.mask is None else pixels_digest(edit.mask)
    found = {"pixels": pixels_digest(edit.picture), "strength": edit.share}
    return found if mask is None else {**found, "mask": mask, "resample": edit.resample}


def settings_of(
    components: Iterable[ComponentSpec], request: GenerateRequest
) -> dict[str, dict[str, Any]]:
    """What the options of components come to: by option, then by component."""
    taken: dict[str, dict[str, Any]] = {"steps": {}, "guidance": {}, "augmentation": {}}
    for spec in components:
        family = family_of(spec)
        plan = family.resolve(spec, request.options.get(spec.name))
        for key, value in family.settings(spec, plan).items():
            taken.setdefault(key, {})[spec.name] = value
    return taken


def metadata_of_fetched(manifest: Manifest, result: Result) -> dict[str, Any]:
    """The metadata of a picture that a server kept: what was asked for, only the server knows."""
    return {"request_id": result.request_id, **made_by(manifest, result)}


def made_by(manifest: Manifest, result: Result) -> dict[str, Any]:
    """Bundle, engines, sides, versions, and what came out."""
    return {
        "bundle": manifest.name,
        "bundle_id": manifest.bundle_id,
        "computed": {
            name: {
                "engine": computed.engine,
                "precision": computed.precision.value,
                "side": result.sides.get(name, SERVER),
            }
            for name, computed in result.computed.items()
        },
        "fell_back": result.fell_back,
        "versions": versions(result),
        **({"sent_as": result.sent_as} if result.sent_as else {}),
        "pixels": pixels_digest(result.image),
        "software": f"{SOFTWARE} {__version__}",
    }


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The same as text by key: text as it is, anything else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in metadata.items()
    }


def asked(options: FamilyOptions) -> dict[str, float]:
    """The choices that somebody made."""
    return {name: value for name, value in asdict(options).items() if value is not None}


def versions(result: Result) -> dict[str, str]:
    """Of what did arithmetic here, and of the server's software where there was one."""
    installed = installed_versions()
    found = {SOFTWARE: __version__, "numpy": np.__version__}
    for name, computed in result.computed.items():
        if result.sides.get(name, SERVER) == SERVER or computed.engine not in list(EngineKind):
            continue
        for module in MODULES[EngineKind(computed.engine)]:
            if module in installed:
                found[module] = version_in(installed[module])
    if result.server_version:
        found[SERVER] = result.server_version
    return found


def version_in(folders: str) -> str:
    """`onnxruntime-1.31.1.dist-info` as `1.31.1`."""
    return " ".join(name.rpartition(".")[0].partition("-")[2] for name in folders.split())


def pixels_digest(image: ImageU8 | PlaneU8) -> str:
    """Sha256 over `<height>x<width>:` and the pixels in C order, of a picture or one channel."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode("ascii"))
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
