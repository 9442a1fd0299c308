"""A user's own torch modules: `MODULE:FACTORY` is imported and called, and describes a cascade.

The module is the user's own code and runs as such; nothing else is imported by name. Knows how to
call the factory; what it returns is `export.description`.
"""

import importlib
import sys
from pathlib import Path

from cascade.errors import UnsupportedModel
from export.description import CascadeDescription


def describe_torch(where: str) -> CascadeDescription:
    """The description that a factory returns.

    Args:
        where: `MODULE:FACTORY`; modules of the current folder are found too.

    Raises:
        UnsupportedModel: no such module or factory, or it returns something else.
    """
    module_name, separator, factory_name = where.partition(":")
    if not separator or not module_name or not factory_name:
        raise UnsupportedModel(
            f"--from torch {where}: expected MODULE:FACTORY, such as examples.my_cascade:describe",
            field="from",
        )
    here = str(Path.cwd())
    if here not in sys.path:
        # A console script does not look in the current folder, as `python -m` would.
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        raise UnsupportedModel(f"--from torch {where}: {exc}", field="from") from exc
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise UnsupportedModel(
            f"--from torch {where}: {module_name} has no function {factory_name}", field="from"
        )
    description = factory()
    if not isinstance(description, CascadeDescription):
        raise UnsupportedModel(
            f"--from torch {where}: expected a CascadeDescription, got "
            f"{type(description).__name__}",
            field="from",
        )
    return description
