"""torch's exporter reads the sources of all its operators for every graph: once is enough here.

Half the time of a tiny export. Knows private functions of torch 2.13; where one is gone, tests are
slower, and the test that says so fails.
"""

import functools
from importlib import import_module

import pytest

EXPORTER = "torch.onnx._internal.exporter._registration"
DECOMPOSITIONS = ("torch.export.decomp_utils", "torch.export.exported_program")
"""Modules that ask for all operators that torch can take apart, for every graph."""


def keep_registry(patch: pytest.MonkeyPatch) -> None:
    """Let every export of this process use the first one's tables of operators."""
    registry = getattr(import_module(EXPORTER), "ONNXRegistry", None)
    if registry is not None:
        patch.setattr(
            registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib))
        )
    name = "_collect_all_valid_cia_ops"
    collect = getattr(import_module(DECOMPOSITIONS[0]), name, None)
    for module in DECOMPOSITIONS if collect is not None else ():
        patch.setattr(f"{module}.{name}", functools.cache(collect), raising=False)
