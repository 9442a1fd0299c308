"""A graph made ready for the shapes that most of its runs have.

With a free batch OpenVINO fuses hardly anything between convolutions and asks every node for its
shapes in every run: a step takes a sixth to a half longer. Lengths of texts stay free, they differ
from prompt to prompt and cost nothing. Knows OpenVINO's graphs; not bundles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cascade.engines.openvino_library import ops
from cascade.types import Array

DefaultShapes = Mapping[str, Sequence[int | None]]
"""Shape of every input of most runs; None for an axis that differs from run to run."""
UNFIT = b"GroupNormalization"
"""An operator whose fixed shapes have ended OpenVINO's process
(docs/decisions/0009-engine-and-precision.md): graphs that hold it stay free."""


def can_be_pinned(graph: bytes) -> bool:
    """Whether an ONNX file's shapes may be fixed."""
    return UNFIT not in graph


def fits(inputs: Mapping[str, Array], default_shapes: DefaultShapes) -> bool:
    """Whether a run has the default shapes; of which dtypes, makes no difference."""
    return inputs.keys() == default_shapes.keys() and all(
        len(value.shape) == len(default_shapes[name])
        and all(
            size in (n, None) for n, size in zip(value.shape, default_shapes[name], strict=True)
        )
        for name, value in inputs.items()
    )


def pin(model: Any, default_shapes: DefaultShapes) -> None:
    """Fix the default shapes, in place.

    Raises:
        RuntimeError: the graph cannot have them.
    """
    model.reshape(
        {n: [-1 if s is None else s for s in shape] for n, shape in default_shapes.items()}
    )


def normalise_in_place(model: Any) -> int:
    """Norms over groups of channels as sums over the picture as it lies, in place.

    OpenVINO's own kernel needs every channel in one piece, convolutions the channels of a point
    side by side: the picture is turned over before and after every norm. Sums per channel need
    neither. Mean first, then the length of what differs from it: in bfloat16 the difference of two
    squares would be lost. For pinned graphs of one row; means and variances are rounded to the
    precision that the graph is computed in.

    Returns:
        How many norms were rewritten.
    """
    count = 0
    for norm in model.get_ordered_ops():
        cut = norm.input_value(0).get_node() if norm.get_type_name() == "MVN" else None
        if cut is None or cut.get_type_name() != "Reshape":
            continue
        picture, groups = cut.input_value(0), cut.output(0)
        if is_row_of_groups(picture.get_partial_shape(), groups.get_partial_shape()):
            epsilon = norm.get_attributes()["eps"]
            norm.output(0).replace(normalised(picture, list(groups.get_shape()), epsilon))
            count += 1
    model.validate_nodes_and_infer_types()
    return count


def is_row_of_groups(picture: Any, groups: Any) -> bool:
    """Whether `[1, C, H, W]` was cut into `[1, groups, rest]`, all sizes known."""
    if not (picture.is_static and groups.is_static):
        return False
    whole, parts = list(picture.to_shape()), list(groups.to_shape())
    return len(whole) == 4 and len(parts) == 3 and whole[0] == 1 and whole[1] % parts[1] == 0


def normalised(picture: Any, groups: list[int], epsilon: float) -> Any:
    """The picture with mean 0 and variance 1 in every group, in the shape of the groups."""
    _, channels, height, width = picture.get_shape()
    per_group = channels // groups[1]
    count = per_group * height * width

    def over_picture(reduce: Any, values: Any) -> Any:
        """`[1, C, H, W]` to a number per group, `[1, groups, 1]`."""
        by_channel = ops.reshape(
            reduce(values, whole(2, 3), True),  # noqa: FBT003  OpenVINO's own signature
            whole(1, groups[1], per_group),
            False,  # noqa: FBT003
        )
        return reduce(by_channel, whole(2), True)  # noqa: FBT003

    def by_channel(values: Any) -> Any:
        """`[1, groups, 1]` to `[1, C, 1, 1]`."""
        spread = ops.broadcast(values, whole(1, groups[1], per_group))
        return ops.reshape(spread, whole(1, channels, 1, 1), False)  # noqa: FBT003

    centred = ops.subtract(picture, by_channel(over_picture(ops.reduce_mean, picture)))
    deviation = ops.multiply(over_picture(ops.reduce_l2, centred), real(count**-0.5))
    variance = ops.add(ops.multiply(deviation, deviation), real(epsilon))
    result = ops.multiply(centred, by_channel(ops.power(variance, real(-0.5))))
    return ops.reshape(result, whole(*groups), False).output(0)  # noqa: FBT003


def whole(*values: int) -> Any:
    """A constant of whole numbers."""
    return ops.constant(np.array(values, np.int64))


def real(value: float) -> Any:
    """A constant number."""
    return ops.constant(np.float32(value))
