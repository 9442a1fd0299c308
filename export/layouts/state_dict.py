"""A network filled from the tensors of a file: every one of them, and no other.

Knows names and shapes of tensors; not what a network is, nor where its arguments come from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel

Network = TypeVar("Network", bound=nn.Module)


def filled(
    network: Network, tensors: Mapping[str, Tensor], path: Path, prefix: str = ""
) -> Network:
    """The network with its weights, in single precision and evaluation mode, frozen.

    Args:
        network: as its arguments describe it.
        tensors: by the name that the network has for each.
        path: of the file that holds them, for errors.
        prefix: of their names in the file, for errors.

    Raises:
        UnsupportedModel: a weight is missing, unknown or of another shape: the arguments are not
            those of this file.
    """
    wanted = network.state_dict()
    for name in sorted(wanted.keys() ^ tensors.keys()):
        verb = "is missing" if name in wanted else "has no place in the network"
        raise UnsupportedModel(
            f"{path}: {prefix}{name} {verb} that the arguments describe: are they those that it "
            "was trained with?",
            field=f"{path}:{prefix}{name}",
        )
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            raise UnsupportedModel(
                f"{path}: {prefix}{name} has the shape {list(tensors[name].shape)}, and the "
                f"arguments describe {list(tensor.shape)}: are they those that it was trained "
                "with?",
                field=f"{path}:{prefix}{name}",
            )
        if not torch.isfinite(tensors[name]).all():
            raise UnsupportedModel(
                f"{path}: {prefix}{name} holds NaN or infinity: take a checkpoint before that",
                field=f"{path}:{prefix}{name}",
            )
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    network.eval()
    network.requires_grad_(requires_grad=False)
    return network
