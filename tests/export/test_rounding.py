"""The released weights: on the grid of the storage asked for, and on it to stay."""

import pytest
import torch

from export.weights.rounding import EDGES, SMALL, Storage, release
from export.weights.weight_grid import find_grid
from stages.networks.efficient_unet import EfficientUNet
from tests.support.tiny_training import stirred, tiny_unet


def network() -> EfficientUNet:
    """A network with some large weights."""
    return stirred(tiny_unet(attention="self", levels=2))


def weights(net: EfficientUNet) -> dict[str, torch.Tensor]:
    """All parameters, copied."""
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def test_float32_moves_nothing() -> None:
    """The trained weights themselves."""
    before = weights(network())
    after = weights(release(network(), Storage.FLOAT32))
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_half_precision_is_the_nearest() -> None:
    """Every parameter goes through half precision and back."""
    before = weights(network())
    after = weights(release(network(), Storage.FLOAT16))
    assert all(torch.equal(after[name], value.half().float()) for name, value in before.items())


def test_large_weights_lie_on_eight_bits_and_the_rest_in_half() -> None:
    """Convolutions and matrices have a grid per output channel; small tensors keep half."""
    net = release(network(), Storage.INT8)
    large = 0
    for place, module in net.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = parameter.detach()
            kernel = getattr(module, "kernel_size", None)
            left_out = place in EDGES or kernel == (1, 1)
            if name == "weight" and value.dim() > 1 and value.numel() >= SMALL and not left_out:
                axis = 1 if isinstance(module, torch.nn.ConvTranspose2d) else 0
                assert find_grid(value.numpy(), axis) is not None
                large += 1
            else:
                assert torch.equal(value, value.half().float())
    assert large >= 4


@pytest.mark.parametrize("storage", list(Storage))
def test_releasing_twice_is_releasing_once(storage: Storage) -> None:
    """Weights on a grid stay where they are, to the bit."""
    first = weights(release(network(), storage))
    again = release(network(), storage)
    second = weights(release(again, storage))
    assert all(torch.equal(second[name], value) for name, value in first.items())
