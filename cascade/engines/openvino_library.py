"""OpenVINO itself, imported so that it reports nothing to its makers and threads may share it.

Importing it reports that import over the network, unless its telemetry package is missing: for the
length of the import it is. And its first conversion of a dtype is made here, see `first_use`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cascade.errors import MissingExtra

TELEMETRY = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Make the telemetry package look missing; openvino then imports its own silent stand-in."""
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import of it raises
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before


def first_use() -> None:
    """Let OpenVINO fill its tables of dtypes while one thread alone has it.

    The binding of 2026.4 fills them at the first conversion, holding a lock of its own and letting
    go of the interpreter's. A second thread that converts then has the interpreter's lock and waits
    for the other: both stand still for ever, and Python with them. An import is one thread's.
    """
    array = np.zeros(1, np.float32)
    ov.Type(array.dtype).to_dtype()
    ov.Tensor(array, shared_memory=True).data.tobytes()


try:
    with no_telemetry():
        import openvino as ov
        from openvino import opset13 as ops
except ImportError as exc:
    raise MissingExtra("OpenVINO is not installed: pip install 'edge-cascade[openvino]'") from exc
first_use()

__all__ = ["ops", "ov"]
