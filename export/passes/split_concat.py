"""Convolutions of joined feature maps as sums of convolutions of the parts.

Requires: `Concat` on the channel axis whose readers are convolutions of one group with constant
weights, directly or through `GroupNormalization -> QuickGelu` with constant weights and groups that
do not straddle the seam.
Ensures: each part is normalised and convolved by itself and the results are added, which ONNX
Runtime does inside the second convolution; the joined map, a copy of both parts, is never written.
Weights are cut, not changed. Pays on large maps, where copies cost more than the added nodes: small
ones are left. Does not know how a norm is computed.
"""

from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from export.passes.editor import MICROSOFT, GraphEditor, attribute

Array = NDArray[Any]

SMALL_MAP = 1 << 17
"""Numbers per sample of a joined map below which it is left whole (measured: decision 8)."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm with constant weights, and a swish after it."""

    node: NodeProto
    gain: Array
    offset: Array


@dataclass(frozen=True, slots=True)
class Reader:
    """A convolution of a joined map, and the norm and swish before it, if any."""

    conv: NodeProto
    weight: Array
    norm: Norm | None


def split_concats(model: onnx.ModelProto) -> int:
    """Rewrite every convolution of a joined map.

    Returns:
        How many convolutions were cut.
    """
    editor = GraphEditor(model)
    count = 0
    for concat in editor.of_type("Concat"):
        widths = channel_counts(editor, concat)
        readers = find_readers(editor, concat)
        if widths is None or readers is None:
            continue
        if all(aligned(reader, widths) for reader in readers):
            for reader in readers:
                cut(editor, concat, widths, reader)
            count += len(readers)
    editor.finish()
    return count


def channel_counts(editor: GraphEditor, concat: NodeProto) -> list[int] | None:
    """Channels of each part; None if this is not a join of large feature maps."""
    shapes = [editor.shape(name) for name in concat.input]
    if attribute(concat, "axis") != 1 or any(s is None or len(s) != 4 for s in shapes):
        return None
    channels = [s[1] for s in shapes if s is not None and isinstance(s[1], int)]
    if len(channels) != len(shapes):
        return None
    height, width = (shapes[0] or ())[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        return channels  # a size that is left free is the last stage's, and large
    if sum(channels) * height * width < SMALL_MAP:
        return None
    return channels


def find_readers(editor: GraphEditor, concat: NodeProto) -> list[Reader] | None:
    """Everyone who reads the joined map; None if one of them needs it whole."""
    readers = []
    for user in editor.users(concat.output[0]):
        reader = find_reader(editor, user)
        if reader is None:
            return None
        readers.append(reader)
    return readers


def find_reader(editor: GraphEditor, user: NodeProto) -> Reader | None:
    """The convolution that a reader is, or that follows it, if it can be cut."""
    norm, conv = None, user
    if user.op_type == "GroupNormalization":
        gain, offset = (editor.constant(name) for name in user.input[1:])
        swish = editor.only_user(user.output[0], "QuickGelu")
        found = swish and editor.only_user(swish.output[0], "Conv")
        if swish is None or found is None or attribute(swish, "alpha") != 1.0:
            return None
        if gain is None or offset is None:
            return None
        norm, conv = Norm(user, gain, offset), found
    weight = editor.constant(conv.input[1]) if conv.op_type == "Conv" else None
    # A convolution in groups does not sum over all channels.
    if weight is None or attribute(conv, "group", 1) != 1:
        return None
    return Reader(conv, weight, norm)


def aligned(reader: Reader, widths: list[int]) -> bool:
    """Whether the norm's groups end where the parts do."""
    if reader.norm is None:
        return True
    size = sum(widths) // attribute(reader.norm.node, "num_groups")
    return all(width % size == 0 for width in widths)


def cut(editor: GraphEditor, concat: NodeProto, widths: list[int], reader: Reader) -> None:
    """One convolution per part, added up."""
    total, start = "", 0
    for part, width in zip(concat.input, widths, strict=True):
        piece = slice(start, start + width)
        source = part
        if reader.norm is not None:
            source = cut_norm(editor, reader.norm, part, piece)
        inputs = [source, editor.add_constant(reader.weight[:, piece], "weight")]
        # The bias is added once.
        inputs += [] if total else list(reader.conv.input[2:])
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in reader.conv.attribute}
        result = editor.add("Conv", inputs, **attributes)
        total = editor.add("Add", [total, result]) if total else result
        start += width
    editor.replace(reader.conv.output[0], total)


def cut_norm(editor: GraphEditor, norm: Norm, part: str, piece: slice) -> str:
    """The norm and swish of one part."""
    size = norm.gain.size // attribute(norm.node, "num_groups")
    normalised = editor.add(
        "GroupNormalization",
        [
            part,
            editor.add_constant(norm.gain[piece], "gain"),
            editor.add_constant(norm.offset[piece], "offset"),
        ],
        num_groups=(piece.stop - piece.start) // size,
        epsilon=attribute(norm.node, "epsilon", 1e-5),
    )
    return editor.add("QuickGelu", [normalised], domain=MICROSOFT, alpha=1.0)
