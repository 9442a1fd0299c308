"""Where this user's own copies of what was measured or compiled lie.

Names a folder; makes none and reads none.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from cascade.errors import InvalidRequest

FOLDER = "edge-cascade"


def user_cache_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """`$XDG_CACHE_HOME/edge-cascade`, or `~/.cache/edge-cascade` where that is not set.

    A relative `XDG_CACHE_HOME` is ignored, as its specification asks. None for a user without a
    home, as a container's often is: what would be kept is then not kept.
    """
    named = environment.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / FOLDER
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ".cache" / FOLDER if home.is_absolute() else None


def required_cache_folder() -> Path:
    """The same, for a command whose result lies there.

    Raises:
        InvalidRequest: this user has no home.
    """
    folder = user_cache_folder()
    if folder is None:
        raise InvalidRequest(
            "cache: this user has no home folder: set XDG_CACHE_HOME to a folder that it can "
            "write to",
            field="cache",
        )
    return folder
