"""The header of a safetensors file: names, dtypes, shapes and places of its tensors, checked.

Stricter than the format where that costs nothing: tensors follow one another without a gap, and a
name stands once. Knows bytes of the header; not what the tensors are for, nor who reads them.

References:
    https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.errors import ManifestError

LENGTH_BYTES = 8
"""The file begins with the header's length, little endian."""
MAX_HEADER_BYTES = 16 << 20
"""A header has to lie in the first chunk of its file: nothing is parsed that was not hashed."""
METADATA = "__metadata__"

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
"""Number formats of weights, by the format's names."""

Place = tuple[int, int]
"""First byte of a tensor in its file, and the first one behind it."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        dtype: as the format names it.
        shape: of any number of axes.
        place: in the file, not in the data behind the header.
    """

    dtype: str
    shape: tuple[int, ...]
    place: Place

    @property
    def size_bytes(self) -> int:
        """Of its data."""
        return self.place[1] - self.place[0]


def header_bytes(start: bytes | memoryview, size_bytes: int, name: str) -> int:
    """How many bytes of a file its length and its header take.

    Args:
        start: the file's first bytes.
        size_bytes: of the whole file.
        name: of the file, for errors.

    Raises:
        ManifestError: the header would be longer than the file, or than any.
    """
    length = int.from_bytes(bytes(start[:LENGTH_BYTES]), "little")
    longest = min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES)
    if len(start) < LENGTH_BYTES or length > longest:
        raise ManifestError(f"{name}: a header of {length} bytes, {max(longest, 0)} are possible")
    return LENGTH_BYTES + length


def read_header(header: bytes, size_bytes: int, name: str) -> dict[str, StoredTensor]:
    """Every tensor of a file by name.

    Args:
        header: the file's first bytes, as many as `header_bytes` says.
        size_bytes: of the whole file.
        name: of the file, for errors.

    Raises:
        ManifestError: not JSON, or tensors that overlap, leave gaps or do not end with the file.
    """
    try:
        entries = json.loads(header[LENGTH_BYTES:], object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"{name}: its header is not JSON with each name once: {exc}") from exc
    if not isinstance(entries, dict):
        raise ManifestError(f"{name}: its header is no object")
    entries.pop(METADATA, None)
    found = {
        key: read_entry(value, len(header), f"{name}: {key}") for key, value in entries.items()
    }
    check_places(found, len(header), size_bytes, name)
    return found


def unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names all differ: of two readers one would take the first, one the last.

    Raises:
        ValueError: naming the one that stands twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice")
        found[key] = value
    return found


def read_entry(entry: Any, data_at: int, path: str) -> StoredTensor:
    """One tensor of a header, its shape and place compared with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ManifestError(f"{path}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ManifestError(f"{path}: dtype {str(dtype)[:20]!r} is none of {', '.join(DTYPES)}")
    if not are_sizes(shape) or not are_sizes(offsets) or len(offsets) != 2:
        raise ManifestError(f"{path}: shape and data_offsets are no lists of sizes")
    begin, end = offsets
    wanted = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != wanted:
        raise ManifestError(f"{path}: {wanted} bytes by its shape, {end - begin} by its offsets")
    return StoredTensor(dtype, tuple(shape), (data_at + begin, data_at + end))


def are_sizes(value: Any) -> bool:
    """Whether a value is a list of whole numbers, none negative."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def check_places(
    tensors: Mapping[str, StoredTensor], data_at: int, size_bytes: int, name: str
) -> None:
    """Refuse tensors that share bytes, and bytes of no tensor.

    Raises:
        ManifestError: naming the tensor.
    """
    at = data_at
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].place):
        if tensor.place[0] != at:
            what = (
                "overlaps the one before it" if tensor.place[0] < at else "leaves a gap before it"
            )
            raise ManifestError(f"{name}: {key} {what}")
        at = tensor.place[1]
    if at != size_bytes:
        raise ManifestError(f"{name}: its tensors end at byte {at}, the file at {size_bytes}")
