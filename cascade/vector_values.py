"""Vectors as values: what names and numbers a caller may give beside a prompt.

Bounds that need no bundle. Knows arrays; not what reads them.
"""

import re
from collections.abc import Mapping

import numpy as np

from cascade.errors import InvalidRequest
from cascade.types import Vector

MAX_VECTORS = 16
"""Of a component, and of a request."""
MAX_VECTOR_WIDTH = 16384
"""Numbers of one."""
VECTOR_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
SHOWN = 64
"""Characters of a caller's own text that an error quotes."""


def checked_vectors(vectors: Mapping[str, object]) -> dict[str, Vector]:
    """Vectors as float32 arrays `[width]`, from whatever numbers a caller has.

    Args:
        vectors: sequences of numbers, or arrays of one axis, by name.

    Raises:
        InvalidRequest: too many, a name that cannot be one, or not 1 to `MAX_VECTOR_WIDTH` finite
            numbers.
    """
    if len(vectors) > MAX_VECTORS:
        raise InvalidRequest(f"vectors: at most {MAX_VECTORS}, got {len(vectors)}", field="vectors")
    return {name: checked_vector(name, given) for name, given in vectors.items()}


def checked_vector(name: str, given: object) -> Vector:
    """One of them, `[width]` float32; see `checked_vectors`."""
    field = f"vectors.{name[:SHOWN]}"
    if not VECTOR_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{field}: expected a name of 1 to 40 of [a-z0-9_], a letter first", field=field
        )
    try:
        # A number beyond float32 becomes infinity, which is refused below.
        with np.errstate(over="ignore"):
            vector = np.asarray(given, np.float32)
    except (TypeError, ValueError) as exc:
        raise InvalidRequest(f"{field}: expected numbers, got {given!r:.80}", field=field) from exc
    if vector.ndim != 1 or not 1 <= len(vector) <= MAX_VECTOR_WIDTH:
        raise InvalidRequest(
            f"{field}: expected 1 to {MAX_VECTOR_WIDTH} numbers, got {list(vector.shape)[:4]}",
            field=field,
        )
    if not np.isfinite(vector).all():
        raise InvalidRequest(
            f"{field}: holds NaN, infinity or what float32 cannot hold", field=field
        )
    return vector
