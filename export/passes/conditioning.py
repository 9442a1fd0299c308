"""The scales and shifts of all CombineEmbs at once: one matrix product, one scale, one shift.

Requires: `GroupNormalization -> Mul(1 + scale) -> Add(shift)` of feature maps, scale and shift the
halves of a `Gemm` of a vector `[B, E]` with constant weight and bias. Ensures: one `Gemm` per
vector makes all of them; the norm's own weight and bias are folded into them (`w (1 + s)` and `b (1
+ s) + t`), so that a single multiplication and addition per channel is left. Weight rows are moved,
not changed: what lay on a storage grid still does. Does not know how the norm itself is computed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute

Array = NDArray[Any]

SCALES = ("alpha", "beta")
"""Factors of a Gemm."""


@dataclass(frozen=True, slots=True)
class Site:
    """One CombineEmbs: its norm, the nodes around it, and the constants that go into it."""

    norm: NodeProto
    scaled: NodeProto
    shifted: NodeProto
    vector: str
    weight: Array
    bias: Array
    gain: Array
    offset: Array

    @property
    def channels(self) -> int:
        """Channels of the feature map."""
        return int(self.gain.size)


def join_conditioning(model: onnx.ModelProto) -> int:
    """Rewrite every CombineEmbs.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    by_vector: dict[str, list[Site]] = {}
    for norm in editor.of_type("GroupNormalization"):
        site = find_site(editor, norm)
        if site is not None:
            by_vector.setdefault(site.vector, []).append(site)
    # Grouped by the vector, for a product of other inputs cannot share one Gemm.
    for vector, sites in by_vector.items():
        rewrite(editor, vector, sites)
    editor.finish()
    return sum(map(len, by_vector.values()))


def find_site(editor: GraphEditor, norm: NodeProto) -> Site | None:
    """The CombineEmbs after a norm, if there is one."""
    scaled = editor.only_user(norm.output[0], "Mul")
    shifted = scaled and editor.only_user(scaled.output[0], "Add")
    gain, offset = editor.constant(norm.input[1]), editor.constant(norm.input[2])
    if scaled is None or shifted is None or gain is None or offset is None:
        return None
    plus_one = editor.maker(other_input(scaled, norm.output[0]), "Add")
    shift = editor.maker(other_input(shifted, scaled.output[0]), "Split")
    # Scale first, shift second, each as wide as the norm: any other order would be another network.
    if plus_one is None or shift is None or not halves(editor, shift, gain.size):
        return None
    if len(editor.shape(norm.input[0]) or ()) != 4 or shift.output[1] not in shifted.input:
        return None
    one = editor.constant(other_input(plus_one, shift.output[0]))
    # Exactly 1, as it is folded into the bias below; more axes would broadcast the map to another
    # rank.
    if one is None or one.size != 1 or one.item() != 1.0 or one.ndim > 4:
        return None
    if shift.output[0] not in plus_one.input:
        return None
    layer = projection(editor, shift.input[0])
    return None if layer is None else Site(norm, scaled, shifted, *layer, gain, offset)


def halves(editor: GraphEditor, split: NodeProto, channels: int) -> bool:
    """Whether a split gives two values per sample and channel."""
    shapes = {(editor.shape(name) or ())[1:] for name in split.output}
    equal = len(split.output) == 2 and shapes == {(channels, 1, 1)}
    return equal and attribute(split, "axis", 0) == 1


def projection(editor: GraphEditor, spread: str) -> tuple[str, Array, Array] | None:
    """Vector, weight and bias of the layer whose result `[B, 2 C, 1, 1]` is."""
    unsqueezed = editor.maker(spread, "Unsqueeze")
    product = unsqueezed and editor.maker(unsqueezed.input[0], "Gemm")
    if product is None or len(product.input) < 3 or not attribute(product, "transB", 0):
        return None
    # A factor other than 1 would have to be multiplied into the weights, which then lie on no grid.
    if attribute(product, "transA", 0) or {attribute(product, n, 1.0) for n in SCALES} != {1.0}:
        return None
    weight, bias = editor.constant(product.input[1]), editor.constant(product.input[2])
    if weight is None or bias is None or bias.shape != weight.shape[:1]:
        return None
    if (editor.shape(spread) or ())[1:] != (len(bias), 1, 1):
        return None
    return str(product.input[0]), weight, bias


def other_input(node: NodeProto, name: str) -> str:
    """The other one of two inputs."""
    return str(node.input[1] if node.input[0] == name else node.input[0])


def rewrite(editor: GraphEditor, vector: str, sites: list[Site]) -> None:
    """One product for all sites that read this vector."""

    def joined(which: str, half: int) -> Array:
        return np.concatenate([getattr(s, which).reshape(2, s.channels, -1)[half] for s in sites])

    weight = np.concatenate([joined("weight", 0), joined("weight", 1)])
    # The `1 +` of `1 + s` moves into the bias, once at export instead of once a step; float32
    # throughout.
    bias = np.concatenate([joined("bias", 0) + np.float32(1), joined("bias", 1)])[:, 0]
    gain = np.concatenate([site.gain for site in sites])
    offset = np.concatenate([site.offset for site in sites])
    both = editor.add(
        "Gemm",
        [vector, editor.add_constant(weight, "conditioning"), editor.add_constant(bias, "offsets")],
        transB=1,
    )
    scale, shift = editor.add_many("Split", [both], 2, axis=1, num_outputs=2)
    scaled_offset = editor.add("Mul", [scale, editor.add_constant(offset, "norm_biases")])
    shift = editor.add("Add", [scaled_offset, shift])
    scale = editor.add("Mul", [scale, editor.add_constant(gain, "norm_weights")])
    axes = editor.integers(2, 3)
    scale, shift = (editor.add("Unsqueeze", [name, axes]) for name in (scale, shift))
    widths = editor.integers(*(site.channels for site in sites))
    scales = editor.add_many("Split", [scale, widths], len(sites), axis=1)
    shifts = editor.add_many("Split", [shift, widths], len(sites), axis=1)
    for site, own_scale, own_shift in zip(sites, scales, shifts, strict=True):
        # The norm keeps its inputs, neutral: an engine's fused GroupNormalization requires both.
        ones = editor.add_constant(np.ones_like(site.gain), "ones")
        zeros = editor.add_constant(np.zeros_like(site.gain), "zeros")
        site.norm.input[1], site.norm.input[2] = ones, zeros
        product = editor.add("Mul", [site.norm.output[0], own_scale])
        total = editor.add("Add", [product, own_shift])
        editor.replace(site.shifted.output[0], total)
