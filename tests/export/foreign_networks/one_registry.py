"""torch's exporter reads the sources of all its operators for every graph: once is enough here.

Half the time of a tiny export. Knows a private function of torch 2.13; where that is gone, tests
are slower and nothing else.
"""

import functools

import pytest
import torch


def keep_registry(patch: pytest.MonkeyPatch) -> None:
    """Let every export of this process use the first one's table of operators."""
    exporter = getattr(torch.onnx, "_internal", None)
    registration = getattr(getattr(exporter, "exporter", None), "_registration", None)
    registry = getattr(registration, "ONNXRegistry", None)
    if registry is not None:
        patch.setattr(
            registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib))
        )
