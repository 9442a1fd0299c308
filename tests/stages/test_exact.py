"""Exact layers: their numbers lie on the grid, and the bound refuses what float32 cannot hold."""

import pytest
import torch
from torch import nn

from cascade.errors import UnsupportedModel
from stages.networks.exact import (
    GRID,
    HALF_STEP,
    LIMIT,
    ROOM,
    ExactLayer,
    ExactTable,
    FrozenLayer,
    Range,
    bound,
    check_bound,
    frozen,
    project,
)

SIGNED = Range(-255, 255)


def layer(weight: float, *, wide: int = 4, largest: float = 255, added: float = 0.0) -> ExactLayer:
    """A linear layer of `wide` equal weights and one output."""
    made = ExactLayer(wide, 1, SIGNED, largest=largest, added=added)
    with torch.no_grad():
        made.weight.fill_(weight)
    return made


def test_a_frozen_layer_is_its_closed_form() -> None:
    """Weights go to multiples of 1/512, biases to integers and a half step, results to integers."""
    made = layer(0.1)
    with torch.no_grad():
        made.bias.fill_(0.1)  # 3.2 in activations
    kept = made.frozen()
    assert torch.equal(kept.weight, torch.full((1, 4), 51 / 512))
    assert torch.equal(kept.bias, torch.tensor([3 + HALF_STEP]))
    # 4 * 10 * 51/512 + 3 + 1/1024 = 6.985, and 4 * 255 * 51/512 is far above 255.
    found = kept(torch.tensor([[10.0] * 4, [255.0] * 4, [-255.0] * 4]))
    assert found.flatten().tolist() == [7, 105, -99]


def test_training_and_freezing_give_the_same_numbers() -> None:
    """What is trained on is what is exported, layer and table."""
    torch.manual_seed(0)
    network = nn.Sequential(ExactTable(5, 8), ExactLayer(8, 6, SIGNED))
    with torch.no_grad():
        network[0].weight.normal_()
        network[1].bias.normal_()
    asked = torch.arange(5)
    assert torch.equal(network(asked), frozen(network)(asked))
    assert torch.equal(network(asked), network(asked).round())


def test_the_gradient_passes_through_rounding_and_stops_at_the_bounds() -> None:
    """As if there were no rounding; nothing where a result was clipped."""
    x = torch.tensor([[0.4], [300.0]], requires_grad=True)
    one = ExactLayer(1, 1, SIGNED)
    with torch.no_grad():
        one.weight.fill_(1.0)
    one(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1.0, 0.0]


def test_the_bound_is_the_largest_sum() -> None:
    """`(sum |w| max |a| + |b| + added) * 2^10 / 2^24`, by hand."""
    kept = layer(-0.5, largest=255, added=100).frozen()
    assert bound(kept) == pytest.approx((4 * 0.5 * 255 + HALF_STEP + 100) / 2**14)


@pytest.mark.parametrize(
    ("weight", "added"), [(17.0, 0.0), (16.0, 100.0)], ids=["weights", "what-is-added"]
)
def test_the_bound_refuses_sums_that_depend_on_their_order(weight: float, added: float) -> None:
    """A layer that could reach 2^14 is neither exported nor sampled; the error names it."""
    assert 4 * weight * 255 + added > LIMIT
    with pytest.raises(UnsupportedModel, match=r"1\.0\d times what float32 holds") as caught:
        frozen(nn.ModuleDict({"wild": layer(weight, added=added)}))
    assert caught.value.field == "wild"


def test_sums_beyond_the_bound_do_depend_on_their_order() -> None:
    """Why there is a bound: a multiple of 2^-10 next to 2^14 is not held."""
    just = torch.tensor(LIMIT - HALF_STEP)
    assert just + HALF_STEP - HALF_STEP == just
    assert (just + 2 * HALF_STEP + HALF_STEP) - 3 * HALF_STEP != just


def test_weights_off_the_grid_are_refused() -> None:
    """Half-frozen networks do not pass for exact ones."""
    kept = layer(0.5).frozen()
    assert isinstance(kept, FrozenLayer)
    kept.weight.add_(0.25 / GRID)
    with pytest.raises(UnsupportedModel, match="no multiples of 1/512"):
        check_bound(nn.Sequential(kept))


def test_projection_keeps_training_inside_and_leaves_small_weights() -> None:
    """Only outputs that are too large shrink, and then to the room that is left."""
    network = nn.Sequential(layer(40.0, added=200), layer(0.5))
    project(network)
    wild, tame = network
    assert float(wild.size_of_sums()) == pytest.approx(ROOM * LIMIT, rel=1e-6)
    assert torch.equal(tame.weight, torch.full((1, 4), 0.5))
    assert check_bound(frozen(network)) < 1


def test_the_float_variant_rounds_nothing() -> None:
    """`exact=False`: the same layer as an ordinary float network, clipped alike."""
    torch.manual_seed(0)
    made = ExactLayer(3, 2, Range(-255, 255, exact=False))
    x = torch.rand(4, 3)
    found = made(x)
    assert torch.allclose(found, x @ made.weight.T)
    assert not torch.equal(found, found.round())
