"""Weights that any library can be given without a file: by name, shape and a seed alone.

As large as those of a trained network are, so that no layer drowns another; layers that begin as
zero are none.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade.numerics.noise import normals
from stages.safetensors_file import save_safetensors

ROUGH = 0.2
"""Deviation of biases, and of norms from 1."""


def known_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """A tensor of every shape; a name has the same numbers in every network of a seed."""
    return {name: known_tensor(name, shape, seed) for name, shape in shapes.items()}


def known_tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Weights of matrices keep the deviation of what they are given; biases are small."""
    stage = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    drawn = normals(shape or (1,), seed=seed, image=0, stage=stage, step=0).reshape(shape)
    if len(shape) > 1:
        return torch.from_numpy(drawn * np.float32(1 / math.sqrt(math.prod(shape[1:]))))
    centre = 0.0 if name.endswith("bias") else 1.0
    return torch.from_numpy(np.asarray(np.float32(centre) + np.float32(ROUGH) * drawn))


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def write_known(network: torch.nn.Module, folder: Path, seed: int = 0) -> dict[str, Tensor]:
    """The weights of a network of ours, known and saved as `model.safetensors`."""
    tensors = known_weights(shapes_of(network), seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / "model.safetensors", tensors)
    return tensors
