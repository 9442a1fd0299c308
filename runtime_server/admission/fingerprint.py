"""What a request means, as 32 bytes: equal for a request that is asked again, whatever way it came.

A context by handle and the same one inline are one meaning; what only concerns the listening
(previews, detaching, results already held) is none. Knows checked work; no wire.
"""

import hashlib
import json
from dataclasses import asdict

from cascade.edit import Edit
from cascade.types import ContextF16
from runtime_server.admission.checks import RequestPlan
from wire.contexts import context_handle


def fingerprint(plan: RequestPlan) -> bytes:
    """The sha256 of everything that the result depends on.

    Args:
        plan: as admission returned it, for a known bundle.
    """
    request, start = plan.request, plan.start
    options = {name: asdict(chosen) for name, chosen in request.options.items()}
    digest = hashlib.sha256()
    said = {
        "prompt": start.prompt,
        "seed": request.seed,
        "image_index": request.image_index,
        "first": plan.first,
        "last": plan.last,
        "options": {name: chosen for name, chosen in options.items() if any_said(chosen)},
        "format": plan.format,
        "negative": handle_of(request.negative_context),
        "own_picture": bool(request.sizes),
        "size": request.size,
        "edit": None if request.edit is None else said_of(request.edit),
        "context": handle_of(start.context),
        "image": None if start.image is None else list(start.image.shape),
        "vectors": {name: vector.tobytes().hex() for name, vector in start.vectors.items()},
        "tensor": None if start.tensor is None else [start.tensor.dtype.name, *start.tensor.shape],
    }
    # Sorted, so that the order in which options came makes no other request.
    digest.update(json.dumps(said, sort_keys=True).encode())
    if start.image is not None:
        digest.update(start.image.tobytes())
    if start.tensor is not None:
        digest.update(start.tensor.tobytes())
    if request.edit is not None:
        digest.update(request.edit.picture.tobytes())
        if request.edit.mask is not None:
            digest.update(request.edit.mask.tobytes())
    return digest.digest()


def said_of(edit: Edit) -> list[object]:
    """What an edit says beside its pixels."""
    return [list(edit.picture.shape), edit.mask is not None, edit.share, edit.resample]


def handle_of(context: ContextF16 | None) -> str | None:
    """What names embeddings `[tokens, width]` float16."""
    return None if context is None else context_handle(context).hex()


def any_said(chosen: dict[str, object]) -> bool:
    """Whether options of a component say anything at all."""
    return any(value is not None for value in chosen.values())
