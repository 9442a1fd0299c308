"""OpenVINO itself, imported so that it reports nothing to its makers.

Importing it reports that import over the network, unless its telemetry package is missing: for the
length of the import it is.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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

__all__ = ["ops", "ov"]
