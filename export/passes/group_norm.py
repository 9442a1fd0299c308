"""Group normalisation as two kernels: the statistics, then one multiplication and addition.

ONNX Runtime has no kernel for GroupNormalization on a processor: it runs some 20 nodes in its
place. Requires: `GroupNormalization`; where its weight is 1 and its bias 0, optionally followed by
`Mul` and `Add` with values per sample and channel, of as many samples as the map. Ensures:
InstanceNormalization over each group, whose kernel takes mean and variance in two passes and so
bears large means, then one BatchNormalization with mean 0 and variance 1, the one kernel that
multiplies and adds per channel in a single pass; samples become channels for it, so that each has
its own values. Does not know what follows.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto

from export.passes.editor import GraphEditor, attribute

SMALL_MAP = 1 << 16
"""Numbers per sample below which a `Mul` and an `Add` cost less than the reshapes that a single
pass needs (measured: decision 8)."""


@dataclass(frozen=True, slots=True)
class Affine:
    """A multiplication and addition after a norm; scale and shift are `[B, C, 1, 1]`."""

    scale: str
    shift: str
    result: str


def split_group_norms(model: onnx.ModelProto) -> int:
    """Rewrite every GroupNormalization.

    Returns:
        How many there were.
    """
    editor = GraphEditor(model)
    count = 0
    for node in editor.of_type("GroupNormalization"):
        channels = channel_count(editor, node)
        if channels is None:
            continue
        count += 1
        affine = find_affine(editor, node, channels)
        if affine is None:
            editor.replace(node.output[0], per_channel(editor, node, channels))
        else:
            per_sample(editor, node, channels, affine)
    editor.finish()
    return count


def channel_count(editor: GraphEditor, norm: NodeProto) -> int | None:
    """Channels of a norm, if they are known."""
    shape = editor.shape(norm.input[1])
    channels = shape[0] if shape is not None and len(shape) == 1 else None
    return channels if isinstance(channels, int) else None


def is_plain(editor: GraphEditor, norm: NodeProto) -> bool:
    """Whether a norm's weight is 1 and its bias 0."""
    gain, offset = editor.constant(norm.input[1]), editor.constant(norm.input[2])
    return gain is not None and offset is not None and not ((gain != 1).any() or offset.any())


def per_channel(editor: GraphEditor, norm: NodeProto, channels: int) -> str:
    """The norm, then its own weight and bias if it has some; these may be computed."""
    normalised = normalise(editor, norm, picture_shape(editor, norm, channels))
    if is_plain(editor, norm):
        return normalised
    weights = [norm.input[1], norm.input[2], *unit_statistics(editor, channels)]
    return editor.add("BatchNormalization", [normalised, *weights], epsilon=0.0)


def find_affine(editor: GraphEditor, norm: NodeProto, channels: int) -> Affine | None:
    """What one `Mul` and one `Add` per sample and channel do to a plain norm's output."""
    if not is_plain(editor, norm):
        return None
    picture = editor.shape(norm.input[0])
    product = editor.only_user(norm.output[0], "Mul")
    total = product and editor.only_user(product.output[0], "Add")
    if product is None or total is None or picture is None or len(picture) != 4:
        return None
    scale = next((n for n in product.input if n != norm.output[0]), "")
    shift = next((n for n in total.input if n != product.output[0]), "")
    for name in (scale, shift):
        # A style of one sample for many maps, or many styles for one map, is a Mul and an Add.
        if editor.shape(name) != (picture[0], channels, 1, 1):
            return None
    return Affine(scale, shift, total.output[0])


def normalise(editor: GraphEditor, norm: NodeProto, shape: str) -> str:
    """Each group with mean 0 and variance 1, in `shape`."""
    groups = attribute(norm, "num_groups")
    rows = editor.add("Reshape", [norm.input[0], editor.integers(0, groups, -1)])
    ones = editor.add_constant(np.ones(groups, np.float32), "ones")
    zeros = editor.add_constant(np.zeros(groups, np.float32), "zeros")
    epsilon = attribute(norm, "epsilon", 1e-5)
    rows = editor.add("InstanceNormalization", [rows, ones, zeros], epsilon=epsilon)
    return editor.add("Reshape", [rows, shape])


def per_sample(editor: GraphEditor, norm: NodeProto, channels: int, affine: Affine) -> None:
    """The norm and the affine after it, with the batch laid out as channels."""
    size = spatial_size(editor, norm)
    if size is not None and channels * size[0] * size[1] < SMALL_MAP:
        normalised = normalise(editor, norm, picture_shape(editor, norm, channels))
        scaled = editor.add("Mul", [normalised, affine.scale])
        editor.replace(affine.result, editor.add("Add", [scaled, affine.shift]))
        return
    if size is None:
        rest = editor.add("Shape", [norm.input[0]], start=2, end=4)
        flat = editor.add("Concat", [editor.integers(1, -1), rest], axis=0)
    else:
        flat = editor.integers(1, -1, *size)
    normalised = normalise(editor, norm, flat)
    one_axis = editor.integers(-1)
    scale = editor.add("Reshape", [affine.scale, one_axis])
    shift = editor.add("Reshape", [affine.shift, one_axis])
    # Vectors of batch times channels zeros and ones: shared by all norms of this width.
    length = editor.add("Shape", [width_sample(editor, channels, scale)])
    statistics = [
        editor.add("ConstantOfShape", [length], value=onnx.numpy_helper.from_array(value))
        for value in (np.zeros(1, np.float32), np.ones(1, np.float32))
    ]
    result = editor.add("BatchNormalization", [normalised, scale, shift, *statistics], epsilon=0.0)
    result = editor.add("Reshape", [result, picture_shape(editor, norm, channels)])
    editor.replace(affine.result, result)


def width_sample(editor: GraphEditor, channels: int, scale: str) -> str:
    """The first flat scale of this width: its length stands for all."""
    return editor.first_of(("width", channels), scale)


def picture_shape(editor: GraphEditor, norm: NodeProto, channels: int) -> str:
    """The shape of the feature map: constant where its height and width are."""
    size = spatial_size(editor, norm)
    if size is None:
        return editor.add("Shape", [norm.input[0]])
    return editor.integers(-1, channels, *size)


def spatial_size(editor: GraphEditor, norm: NodeProto) -> tuple[int, int] | None:
    """Height and width if both are known."""
    shape = editor.shape(norm.input[0])
    if shape is None or len(shape) != 4:
        return None
    height, width = shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def unit_statistics(editor: GraphEditor, channels: int) -> list[str]:
    """Mean 0 and variance 1."""
    zeros = editor.add_constant(np.zeros(channels, np.float32), "zeros")
    return [zeros, editor.add_constant(np.ones(channels, np.float32), "ones")]
