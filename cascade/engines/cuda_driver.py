"""The little of CUDA's driver that pycuda leaves out: which card is here, and recorded graphs.

Through ctypes, so that nothing needs to be installed to ask. Without a driver `find_device` answers
None. Knows handles and numbers; not engines.

References:
    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__GRAPH.html and group__CUDA__STREAM.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache

from cascade.errors import EngineError

LIBRARY = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating while one records."""


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """The first card of this machine."""

    name: str
    major: int
    minor: int


@lru_cache(maxsize=1)
def driver() -> ctypes.CDLL | None:
    """The driver's library; None where there is none."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


def find_device() -> CudaDevice | None:
    """The first card; None without a driver or a card."""
    cuda = driver()
    if cuda is None or cuda.cuInit(0):
        return None
    device, value = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, 256, device):
        return None
    numbers = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        numbers.append(value.value)
    return CudaDevice(name.value.decode(errors="replace"), *numbers)


class RecordedGraph:
    """Work on one stream, recorded once and launched as a whole."""

    def __init__(self, stream: int) -> None:
        """Begin to record what is put on a stream; `finish` ends it.

        Args:
            stream: the stream's handle, not the default stream.
        """
        self.stream = ctypes.c_void_p(stream)
        self.executable = ctypes.c_void_p()
        call("cuStreamBeginCapture_v2", self.stream, THREAD_LOCAL)

    def finish(self) -> None:
        """End the recording and make it launchable."""
        graph = ctypes.c_void_p()
        call("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        try:
            flags = ctypes.c_ulonglong(0)
            call("cuGraphInstantiateWithFlags", ctypes.byref(self.executable), graph, flags)
        finally:
            call("cuGraphDestroy", graph)

    def abandon(self) -> None:
        """End a recording whose work failed; the driver may have ended it already."""
        graph = ctypes.c_void_p()
        cuda = driver()
        if cuda is not None and not cuda.cuStreamEndCapture(self.stream, ctypes.byref(graph)):
            cuda.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Put the recorded work on its stream."""
        call("cuGraphLaunch", self.executable, self.stream)

    def close(self) -> None:
        """Release it; again does nothing."""
        if self.executable:
            call("cuGraphExecDestroy", self.executable)
            self.executable = ctypes.c_void_p()


def call(name: str, *arguments: object) -> None:
    """One function of the driver.

    Raises:
        EngineError: it returned an error, or there is no driver.
    """
    cuda = driver()
    if cuda is None:
        raise EngineError(f"{LIBRARY} is not here: CUDA needs NVIDIA's driver")
    code = getattr(cuda, name)(*arguments)
    if code:
        raise EngineError(f"CUDA: {name} returned error {code}")
