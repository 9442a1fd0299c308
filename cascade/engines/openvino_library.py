"""OpenVINO itself, imported so that it reports nothing to its makers and hangs no threads.

Importing it reports that import over the network, unless its telemetry package is missing: for the
length of the import it is.

Its Python binding (2026.4) fills its tables of NumPy's types at their first use, in C++ statics
whose initialiser lets go of Python's global lock. A second thread that comes then holds that lock
and waits for the static, and the whole process stands still. So they are filled here: whoever
imports a module is alone in it.
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


try:
    with no_telemetry():
        import openvino as ov
        from openvino import opset13 as ops
except ImportError as exc:
    raise MissingExtra("OpenVINO is not installed: pip install 'edge-cascade[openvino]'") from exc

# Both directions: from a graph's type to NumPy's, and back.
ov.Type(np.dtype("float32")).to_dtype()

__all__ = ["ops", "ov"]
