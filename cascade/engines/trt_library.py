"""TensorRT or TensorRT for RTX, whichever is installed: one programming interface, one object.

The only file that imports either. Knows where the library is and how it reports; not what is built.
"""

import importlib
import threading
from typing import Any

from cascade.errors import MissingExtra

MODULES = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
    "tensorrt_rtx_bindings": "tensorrt_rtx",
}
"""Import name to library, in the order of preference. The datacentre library is faster on its cards
and needs one to build; the other builds anywhere. The last name is that of the plain wheels."""

INSTALL = (
    "pip install 'edge-cascade[gpu]', or, to build without a GPU, "
    "pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"
)


def find_library() -> tuple[Any, str]:
    """The library's module and name.

    Raises:
        MissingExtra: none is installed.
    """
    for module, name in MODULES.items():
        try:
            return importlib.import_module(module), name
        except ImportError:
            continue
    raise MissingExtra(f"neither tensorrt nor tensorrt_rtx is installed: {INSTALL}")


trt, LIBRARY = find_library()
VERSION: str = trt.__version__


class Complaints(trt.ILogger):  # type: ignore[misc, name-defined]
    """Keeps what the library complains about, for the error that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.lines: list[str] = []

    def log(self, severity: Any, text: str) -> None:
        """Called by the library, from any thread."""
        if severity <= trt.ILogger.ERROR:
            with self.lock:
                self.lines.append(text.strip())

    @property
    def text(self) -> str:
        """The complaints so far in one line."""
        with self.lock:
            return "; ".join(self.lines) or "the library gave no reason"
