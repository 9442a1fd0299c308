"""diffusers and transformers, imported with the network shut and their progress bars off.

The two libraries read the environment when they are imported, so this is the one door to them.
Knows switches; not models.
"""

import importlib
import os
from types import ModuleType
from typing import Literal

from cascade.errors import MissingExtra

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
}


def offline_import(name: Literal["diffusers", "transformers"]) -> ModuleType:
    """One of the two libraries.

    Raises:
        MissingExtra: it is not installed.
    """
    # The caller's process ends with the export; nothing here wants the network back.
    os.environ.update(OFFLINE)
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise MissingExtra(
            f"{name} is not installed: pip install 'edge-cascade[export,foreign]' ({exc})"
        ) from exc
