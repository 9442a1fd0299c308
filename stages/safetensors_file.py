"""Reading and writing the safetensors format: weights as plain data, never as code.

A training machine may hold torch and numpy only, so the few lines of the format are here; a test
reads these files with the `safetensors` package and the other way round. Not known here: what the
tensors mean.

References:
    https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER_BYTES = 100_000_000
"""The format's own bound on its header."""


def save_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any shape to one file, replacing it only once the new one is complete."""
    header: dict[str, object] = {}
    blobs = []
    offset = 0
    for name, tensor in tensors.items():
        # Row-major, whatever the memory format: training is channels last.
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        blob = flat.view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    # The format wants its data aligned to 8 bytes, and spaces are what JSON ignores.
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for blob in blobs:
            file.write(blob)
    partial.replace(path)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file.

    Raises:
        ValueError: header and bytes disagree, or a dtype is not one of `DTYPES`.
    """
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    # The length comes from the file: nothing is parsed that was not bounded.
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise ValueError(f"{path.name}: header of {length} bytes in a file of {len(data)}")
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{path.name}: tensor {name} has dtype {entry['dtype']}")
        begin, end = entry["data_offsets"]
        size = math.prod(entry["shape"]) * dtype.itemsize
        if not 0 <= begin <= end <= len(body) or end - begin != size:
            raise ValueError(
                f"{path.name}: tensor {name} takes {size} bytes, the header says {begin} to {end} "
                f"of {len(body)}"
            )
        # A copy that may be written to: torch warns of tensors over memory that may not.
        blob = bytearray(body[begin:end])
        tensor = torch.frombuffer(blob, dtype=torch.uint8) if blob else torch.empty(0).byte()
        tensors[name] = tensor.view(dtype).reshape(entry["shape"])
    return tensors
