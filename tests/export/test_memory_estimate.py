"""What an export takes of a machine's memory: by hand, by parts, refused where it is missing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel
from cascade.graph_spec import TensorSpec
from cascade.precision import Precision
from cascade.system.memory_limits import Memory
from export.components.component import ExportOptions
from export.description import CascadeDescription, StageDescription
from export.memory_estimate import (
    COPIES,
    COPIES_OF_FORMS,
    KEPT,
    OF_LIBRARIES,
    ExportMemory,
    activation_bytes,
    check_memory,
    component_sizes,
    estimate_memory,
)

GB = 1_000_000_000


class Widened(nn.Module):
    """Three channels to eight and back."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """A picture of the same size."""
        if bool(x_t.isnan().any()):
            raise ValueError("not finite")
        return self.plain(x_t, t)

    def plain(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Without a look at the numbers."""
        del t
        found: Tensor = self.parts(x_t)
        return found


class Plain(Widened):
    """The same, traceable."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """A picture of the same size."""
        return self.plain(x_t, t)


def pictures(size: int) -> tuple[TensorSpec, ...]:
    """Two rows."""
    return (
        TensorSpec(name="x_t", dtype="float32", shape=(2, 3, size, size)),
        TensorSpec(name="t", dtype="float32", shape=(2,)),
    )


def test_activations_are_the_most_that_lives_at_once() -> None:
    """The inputs, and both sides of the activation function; nothing is computed or allocated."""
    plane = 2 * 256 * 256 * 4
    assert activation_bytes(Plain(), pictures(256)) == (3 + 8 + 8) * plane + 2 * 4
    # 19 TB: shapes alone have no numbers.
    assert activation_bytes(Plain(), pictures(1 << 18)) > 10_000 * GB


def test_a_network_that_looks_at_its_numbers_counts_with_its_weights() -> None:
    """No trace, no estimate of its activations, and no failure."""
    assert activation_bytes(Widened(), pictures(256)) == 0


def described(*sizes: int) -> CascadeDescription:
    """Stages that make pictures from noise, of so many weights each."""
    stages = []
    for number, size in enumerate(sizes):
        network = Plain()
        network.table = nn.Parameter(torch.empty(size - 59, device="meta"))
        stages.append(
            StageDescription(
                name=f"stage{number}",
                network=network,
                output_resolution=8,
                steps=2,
                uses_context=False,
            )
        )
    return CascadeDescription(stages=tuple(stages), licence="none", provenance="none")


def test_the_peak_is_at_the_largest_component_after_what_is_kept_of_others() -> None:
    """Weights times their copies; forms and other precisions take more."""
    plain = ExportOptions()
    found = estimate_memory(described(GB, 2 * GB, GB), plain)
    assert (found.component, found.weights) == ("stage1", 8 * GB)
    kept = found.total - OF_LIBRARIES - 2 * found.activations
    assert kept == pytest.approx(KEPT * 4 * GB + COPIES * 8 * GB)
    more = replace(plain, gpu_forms=frozenset({Precision.FP16}))
    both = replace(more, precisions=frozenset({Precision.FP32, Precision.INT8}))
    copies = [component_sizes(described(GB), options)[0].copies for options in (plain, more, both)]
    assert copies == [COPIES, COPIES + COPIES_OF_FORMS, COPIES + 2 * COPIES_OF_FORMS]


def test_an_export_that_does_not_fit_is_refused_with_the_remedy() -> None:
    """What is needed, where, what is free; an unknown machine and a near miss go on."""
    needed = ExportMemory(total=4 * GB, component="base", weights=GB // 2, activations=GB // 10)
    for free in (0, 4 * GB, 7 * GB // 2):
        check_memory(needed, Memory(total=8 * GB, available=free))
    with pytest.raises(UnsupportedModel) as refused:
        check_memory(needed, Memory(total=8 * GB, available=3 * GB))
    assert refused.value.field == "memory"
    assert str(refused.value).startswith(
        "memory: this export takes about 4.00 GB at base: weights 0.50 GB, activations 0.10 GB, "
        "and 3.00 GB are free here: close other programs"
    )
