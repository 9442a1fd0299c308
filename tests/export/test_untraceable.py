"""What torch cannot export is refused in one line that names the module."""

import pytest
import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel
from cascade.graph_spec import TensorSpec
from export.graphs import export_graph

SHAPE = ("batch", 3, 8, 8)


class Deciding(nn.Module):
    """Its way depends on its numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice the picture `[B, 3, 8, 8]`, or the picture."""
        return 2 * x if x.sum() > 0 else x


class Bessel(nn.Module):
    """An operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        """Of every number of `[B, 3, 8, 8]`."""
        return torch.special.bessel_j0(x)


class Around(nn.Module):
    """A network with one of them inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 3, 1), inner])

    def forward(self, x_t: Tensor) -> Tensor:
        """All of its blocks."""
        for block in self.blocks:
            x_t = block(x_t)
        return x_t


@pytest.mark.parametrize(
    ("inner", "reason"), [(Deciding(), "data-dependent"), (Bessel(), "bessel_j0")]
)
def test_the_module_is_named(inner: nn.Module, reason: str) -> None:
    """Whether the trace fails or the translation."""
    inputs = [TensorSpec(name="x_t", dtype="float32", shape=SHAPE)]
    outputs = [TensorSpec(name="prediction", dtype="float32", shape=SHAPE)]
    with pytest.raises(UnsupportedModel) as caught:
        export_graph(Around(inner).eval(), inputs, outputs)
    assert str(caught.value).startswith("Around.blocks.1: torch cannot export it: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.field == "Around.blocks.1"
