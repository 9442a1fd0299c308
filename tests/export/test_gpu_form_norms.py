"""Norms of one group in forms for GPUs: the same numbers, and the same norm to TensorRT."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from cascade.graph_spec import TensorSpec
from cascade.precision import Precision
from export.gpu_variant.form import gpu_form
from export.gpu_variant.fused_norms import restate_single_groups
from export.graphs import export_graph
from tests.export.pass_graphs import Recipe, assert_equivalent, kinds, random_inputs, run

NEEDS_TENSORRT = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="tensorrt_rtx IS MISSING: no graph was read by its parser",
)
WHOLE_MAP, POSITIONS = 0b1110, 0b1100
"""Axes over which a normalisation sums, a bit for each: channels, height, width; or without
channels, which the number of groups then cuts."""


class Normed(nn.Module):
    """One norm of some groups between two convolutions."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.norm = nn.GroupNorm(groups, 8)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 3, H, W]`, the same shape again."""
        return self.last(torch.sigmoid(self.norm(self.first(x))))


def exported(groups: int) -> tuple[Normed, onnx.ModelProto]:
    """The network and its plain export."""
    network = Normed(groups).eval().requires_grad_(requires_grad=False)
    specs = [
        TensorSpec(name=n, dtype="float32", shape=("batch", 3, "height", "width")) for n in "xy"
    ]
    return network, export_graph(network, specs[:1], specs[1:])


def normalisations(model: onnx.ModelProto) -> list[tuple[int, int]]:
    """Axes and groups of every normalisation, as TensorRT's parser reads a graph."""
    from cascade.engines.trt_build import parse
    from cascade.engines.trt_library import trt

    parsed = parse(model.SerializeToString())
    found: list[tuple[int, int]] = []
    for index in range(parsed.network.num_layers):
        layer: Any = parsed.network.get_layer(index)
        if layer.type == trt.LayerType.NORMALIZATION:
            layer.__class__ = trt.INormalizationLayer
            found.append((layer.axes, layer.num_groups))
    return found


@pytest.mark.parametrize("groups", [1, 2])
def test_the_form_answers_as_torch(groups: int) -> None:
    """One group or two, one sample or three, the block counted as one norm either way."""
    network, plain = exported(groups)
    form = gpu_form(plain, Precision.FP32)
    assert form.counts["norms"] == 1
    assert ("GroupNormalization" in kinds(form.model)) == (groups != 1)
    for rows in (1, 3):
        x = torch.randn(rows, 3, 32, 64)
        (found,) = run(form.model, {"x": x.numpy()})
        # Sums of some hundred terms of size 1.
        np.testing.assert_allclose(found, network(x).numpy(), atol=1e-5)


def test_half_precision_leaves_the_norm_in_float() -> None:
    """Its gain and offset are not rounded to sixteen bits."""
    model = gpu_form(exported(1)[1], Precision.FP16).model
    (norm,) = (node for node in model.graph.node if node.op_type == "LayerNormalization")
    stored = {t.name: t.data_type for t in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = [makers[name].input[0] for name in norm.input[1:]]
    assert [stored[name] for name in weights] == [onnx.TensorProto.FLOAT] * 2


@pytest.mark.parametrize("rank", [2, 3, 5])
@pytest.mark.parametrize("computed", [False, True])
def test_norms_of_any_rank_and_weights(rank: int, *, computed: bool) -> None:
    """Vectors, tokens and volumes; weights that are constants or inputs."""
    recipe = Recipe()
    x = recipe.input("x", ["batch", 6, *[4] * (rank - 2)])
    weights = (
        [recipe.input(name, [6]) for name in ("gain", "offset")]
        if computed
        else [recipe.normal(6), recipe.normal(6)]
    )
    normed = recipe.op("GroupNormalization", x, *weights, num_groups=1, epsilon=0.1)
    model = recipe.model(recipe.group_norm(normed, 6, 3), rank=rank)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    assert restate_single_groups(changed) == 1
    onnx.checker.check_model(changed)
    assert_equivalent(model, changed, random_inputs(model, batch=3), atol=2e-5)


def test_a_norm_of_unknown_rank_is_refused() -> None:
    """Its weights cannot be given the axes of the map."""
    recipe = Recipe()
    x = recipe.op("Reshape", recipe.input("x", ["batch", 8]), recipe.op(
        "Cast", recipe.input("shape", [3]), to=onnx.TensorProto.INT64
    ))  # fmt: skip
    unknown = recipe.op("Squeeze", x)
    model = recipe.model(recipe.group_norm(unknown, 8, 1))
    with pytest.raises(ValueError, match="are not known"):
        restate_single_groups(model)


@NEEDS_TENSORRT
@pytest.mark.parametrize(("groups", "expected"), [(1, (WHOLE_MAP, 1)), (2, (POSITIONS, 2))])
def test_tensorrt_reads_the_norm_that_is_meant(groups: int, expected: tuple[int, int]) -> None:
    """One group is one over channels, height and width; several cut the channels."""
    _, plain = exported(groups)
    assert normalisations(gpu_form(plain, Precision.FP32).model) == [expected]


@NEEDS_TENSORRT
def test_tensorrt_reads_a_plain_norm_of_one_group_as_one_per_channel() -> None:
    """Why the form is needed: over height and width, in one group, which cuts no channels."""
    assert normalisations(exported(1)[1]) == [(POSITIONS, 1)]
