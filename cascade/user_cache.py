"""Where this user's own copies of what was measured or compiled lie.

Names a folder; makes none and reads none.
"""

import os
from collections.abc import Mapping
from pathlib import Path

FOLDER = "edge-cascade"


def user_cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/edge-cascade`, or `~/.cache/edge-cascade` where that is not set.

    A relative `XDG_CACHE_HOME` is ignored, as its specification asks.
    """
    named = environment.get("XDG_CACHE_HOME", "")
    root = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return root / FOLDER
