"""Whether numbers are finite, at a fraction of the cost of looking at each.

A network's output is no place to look: QuantizeLinear of an 8-bit graph, and OpenVINO's Clip and
Max, make an ordinary number of NaN. What goes into a run is looked at. Knows numbers only.
"""

import numpy as np

from cascade.types import Array


def is_finite(values: Array) -> bool:
    """Whether no number is NaN or infinite.

    One sum first: it is finite for nearly every array whose numbers are. Only that is asked of it,
    so the order of its additions does not matter.

    Args:
        values: any shape and dtype; whole numbers are finite unseen.
    """
    # A sum of finite numbers may overflow: then every number is looked at, and nothing is wrong.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(
            values.dtype.kind != "f" or np.isfinite(values.sum()) or np.isfinite(values).all()
        )
