"""Planes of the text before training: the picture by least squares, and sums that stay exact."""

from dataclasses import replace

import torch
from torch.nn import functional

from stages.data.pixel_loader import PixelLoader
from stages.networks.exact import check_bound, frozen
from stages.networks.pixel_network import CENTRE
from stages.training.text_planes import PLANE_UNIT, Moments, start_planes
from stages.training.trainer import initial_network
from tests.support.tiny_pixels import TINY_FIRST
from tests.support.tiny_training import tiny_dataset

DATA = tiny_dataset(size=256)


def test_the_system_finds_a_line() -> None:
    """Two factors and an offset, from the sums of points without noise alone."""
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double()
    y = x @ torch.tensor([[2.0], [-1.0]], dtype=torch.float64) + 3
    weights, offsets = Moments(100, x.sum(0), y.sum(0), x.T @ x, x.T @ y).solved(0.0)
    assert torch.allclose(weights[:, 0], torch.tensor([2.0, -1.0], dtype=torch.float64))
    assert torch.allclose(offsets, torch.tensor([3.0], dtype=torch.float64))


def test_planes_of_a_caption_are_nearer_to_its_picture_than_the_mean_is() -> None:
    """As the frozen, exact network shows them; the weights keep what float32 holds."""
    preset = replace(TINY_FIRST, text_width=96)
    loader, network = PixelLoader(DATA, preset), initial_network(preset, 0)
    start_planes(network.body, loader, 0)
    body = frozen(network).body
    assert check_bound(body) < 1
    pixels, (context, mask) = loader.captioned(64, 8, torch.Generator().manual_seed(9))
    planes = body.planes(body.text(context, mask))
    shown = functional.pixel_shuffle(planes[:, :12], 2) * PLANE_UNIT + CENTRE
    said, truth = mask.any(1), pixels.float()
    error = (shown - truth)[said].square().mean()
    spread = (truth - truth.mean(0))[said].square().mean()
    assert float(error) < 0.5 * float(spread)


def test_a_stage_without_planes_stays_as_it_is() -> None:
    """Nothing is drawn and nothing solved."""
    preset = replace(TINY_FIRST, text_planes=0)
    network = initial_network(preset, 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start_planes(network.body, PixelLoader(DATA, preset), 0)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
