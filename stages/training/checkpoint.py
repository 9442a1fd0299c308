"""Checkpoints: a folder of safetensors pieces, each under 16 MB, replaced as a whole.

    STAGE/
      checkpoint.json    step, samples, minutes, losses, names of the pieces
      ema-00.safetensors ...     the weights to export
      state-00.safetensors ...   raw weights, optimizer and random state: what resuming needs

Small pieces travel where large files do not. Knows tensors and numbers; not what they train.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cascade.errors import InvalidRequest
from stages.safetensors_file import load_safetensors, save_safetensors

PIECE_BYTES = 15_000_000
"""A piece is closed before it would grow beyond this; a single larger tensor gets its own."""

METADATA_FILE = "checkpoint.json"


def save_checkpoint(
    folder: Path, parts: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]
) -> None:
    """Write a checkpoint beside the old one, then let it take the old one's place.

    Args:
        folder: the checkpoint's folder; replaced as a whole.
        parts: named groups of tensors of any shape, for example `ema` and `state`.
        metadata: numbers to keep with them, plain JSON.
    """
    fresh = folder.with_name(folder.name + ".new")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    pieces: dict[str, list[str]] = {}
    for part, tensors in parts.items():
        pieces[part] = []
        for index, piece in enumerate(cut(tensors)):
            name = f"{part}-{index:02d}.safetensors"
            save_safetensors(fresh / name, piece)
            pieces[part].append(name)
    (fresh / METADATA_FILE).write_text(json.dumps({**metadata, "pieces": pieces}, indent=1) + "\n")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    fresh.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def cut(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors, of any shape, in order, in pieces of at most `PIECE_BYTES`."""
    pieces: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        # A tensor that is larger than a piece gets one of its own.
        if pieces[-1] and filled + size > PIECE_BYTES:
            pieces.append({})
            filled = 0
        pieces[-1][name] = tensor
        filled += size
    return pieces


def has_checkpoint(folder: Path) -> bool:
    """Whether a complete checkpoint is there; puts one back whose replacement was interrupted."""
    old = folder.with_name(folder.name + ".old")
    # A crash between the two renames of a save leaves the old one alone.
    if old.exists() and not folder.exists():
        old.replace(folder)
    return (folder / METADATA_FILE).exists()


def load_metadata(folder: Path) -> dict[str, Any]:
    """The numbers kept with a checkpoint.

    Raises:
        InvalidRequest: there is no complete checkpoint in that folder.
    """
    path = folder / METADATA_FILE
    if not has_checkpoint(folder):
        raise InvalidRequest(
            f"checkpoints: no checkpoint in {folder}: train one with `cascade train`, or take the "
            f"weights of a bundle with `cascade weights --checkpoints {folder.parent}`",
            field="checkpoints",
        )
    try:
        metadata: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise damaged(folder, exc) from exc
    return metadata


def damaged(folder: Path, why: object) -> InvalidRequest:
    """The error for a checkpoint that is there and cannot be read."""
    return InvalidRequest(f"checkpoints: {folder} is damaged: {why}", field="checkpoints")


def load_part(folder: Path, part: str) -> dict[str, Tensor]:
    """One group of tensors of a checkpoint.

    Raises:
        InvalidRequest: there is no checkpoint, it has no such group, or a piece of it is missing
            or broken.
    """
    pieces = load_metadata(folder).get("pieces", {})
    if part not in pieces:
        raise InvalidRequest(
            f"checkpoints: {folder} holds no {part!r}, it holds {', '.join(pieces) or 'nothing'}",
            field="checkpoints",
        )
    tensors: dict[str, Tensor] = {}
    for name in pieces[part]:
        try:
            tensors.update(load_safetensors(folder / name))
        except (OSError, ValueError) as exc:
            raise damaged(folder, exc) from exc
    return tensors
