"""OpenVINO's first use by several threads: the engines of a bundle are opened side by side."""

import importlib.util
import subprocess
import sys

import pytest

if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed: its import is not tested", allow_module_level=True)

FIRST_USES = """
import sys, threading
import numpy as np
from cascade.engines.openvino_library import ov

sys.setswitchinterval(1e-6)
gate = threading.Barrier(8)

def use(number):
    gate.wait()
    if number % 2:
        ov.Type.f32.to_dtype()
    else:
        ov.Tensor(np.zeros(1, np.float32)).element_type

threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
PROCESSES = 4
"""Each has one first use; without what the module does at its import, half of them stood still."""
HANG_S = 300
"""Far more than an import takes; a process that stands still does so for ever."""


def test_threads_meet_at_the_first_use() -> None:
    """No thread waits for another that waits for it, whichever is interrupted where."""
    command = [sys.executable, "-c", FIRST_USES]
    children = [subprocess.Popen(command) for _ in range(PROCESSES)]
    try:
        assert [child.wait(timeout=HANG_S) for child in children] == [0] * PROCESSES
    finally:
        for child in children:
            child.kill()
            child.wait()
