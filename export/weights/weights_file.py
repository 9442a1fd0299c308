"""A safetensors file written as a bundle keeps it: large tensors on pages, each chunk hashed.

Tensors over 1 MB begin on a multiple of 4096 bytes and the others on one of 64, so that what maps
or reads the file in place may. The format allows no gaps: what fills them are tensors of zeros that
nothing names. One tensor at a time is in memory. Knows arrays; not graphs.

References:
    https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.graph_spec import CHUNK_BYTES, FileEntry
from cascade.types import Array
from cascade.weights.header import DTYPES, LENGTH_BYTES, METADATA, StoredTensor

PAGE = 4096
LINE = 64
"""Bytes that a processor fetches at once."""
LARGE_BYTES = 1 << 20
"""A tensor of more begins on a page."""
FILLER = "fill."
"""Begin of the names of what fills gaps."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class NewTensor:
    """One tensor to be written.

    Attributes:
        name: unique in its file.
        dtype: one of safetensors'.
        shape: of any number of axes.
        value: gives the array, when its turn comes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    value: Callable[[], Array]

    @property
    def size_bytes(self) -> int:
        """Of its data."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def new_tensor(name: str, value: Array) -> NewTensor:
    """A tensor, of any shape, that is in memory already.

    Raises:
        KeyError: no file of weights holds its dtype.
    """
    return NewTensor(name, NAMES[value.dtype.newbyteorder("<")], value.shape, lambda: value)


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's header and where its tensors go.

    Attributes:
        header: the file's first bytes.
        tensors: dtype, shape and place in the file of each, by name.
    """

    header: bytes
    tensors: dict[str, StoredTensor]


def lay_out(tensors: Sequence[NewTensor]) -> Layout:
    """Where tensors go in a file, in their order."""
    entries: dict[str, Any] = {METADATA: {"format": "pt"}}
    at = 0
    for tensor in tensors:
        boundary = PAGE if tensor.size_bytes > LARGE_BYTES else LINE
        filler = -at % boundary
        if filler:
            entries[f"{FILLER}{at}"] = entry("U8", (filler,), at, filler)
            at += filler
        entries[tensor.name] = entry(tensor.dtype, tensor.shape, at, tensor.size_bytes)
        at += tensor.size_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    # The data begin on a page too, so that places in the file are multiples as those in the data.
    text += b" " * (-(LENGTH_BYTES + len(text)) % PAGE)
    header = len(text).to_bytes(LENGTH_BYTES, "little") + text
    begins = {t.name: len(header) + entries[t.name]["data_offsets"][0] for t in tensors}
    return Layout(
        header,
        {
            t.name: StoredTensor(t.dtype, t.shape, (begins[t.name], begins[t.name] + t.size_bytes))
            for t in tensors
        },
    )


def entry(dtype: str, shape: tuple[int, ...], at: int, size_bytes: int) -> dict[str, Any]:
    """One entry of a header; `at` counts from the end of the header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size_bytes]}


def write_weights(path: Path, tensors: Sequence[NewTensor]) -> tuple[FileEntry, Layout]:
    """Write a file of weights.

    Args:
        path: of the file, whose name the manifest's entry takes.
        tensors: in the order of the file.

    Returns:
        The manifest's entry, chunks included, and where the tensors lie.

    Raises:
        ValueError: a tensor's value is not of its shape and dtype.
    """
    layout = lay_out(tensors)
    whole, chunk, chunks = hashlib.sha256(), hashlib.sha256(), []
    at = 0
    with path.open("wb") as file:
        for part in parts_of(layout, tensors):
            file.write(part)
            whole.update(part)
            begin = 0
            while begin < len(part):
                room = CHUNK_BYTES - at % CHUNK_BYTES
                taken = part[begin : begin + room]
                chunk.update(taken)
                at, begin = at + len(taken), begin + len(taken)
                if at % CHUNK_BYTES == 0:
                    chunks.append(chunk.hexdigest())
                    chunk = hashlib.sha256()
    if at % CHUNK_BYTES:
        chunks.append(chunk.hexdigest())
    listed = FileEntry(
        name=path.name, sha256=whole.hexdigest(), size_bytes=at, chunks=tuple(chunks)
    )
    return listed, layout


def parts_of(layout: Layout, tensors: Sequence[NewTensor]) -> Iterator[memoryview]:
    """A file's bytes in order: the header, then every tensor with what fills the gap before it."""
    yield memoryview(layout.header)
    at = len(layout.header)
    for tensor in tensors:
        place = layout.tensors[tensor.name].place
        yield memoryview(bytes(place[0] - at))
        value = np.asarray(tensor.value(), DTYPES[tensor.dtype], order="C")
        if value.shape != tensor.shape:
            raise ValueError(f"{tensor.name}: expected {tensor.shape}, got {value.shape}")
        yield value.reshape(-1).view(np.uint8).data
        at = place[1]
