"""Words of a remedy as a POSIX shell takes them."""

import shlex
from pathlib import Path


def quoted(path: Path) -> str:
    """A path as one word, absolute, so that the command works in any folder."""
    return shlex.quote(str(path.absolute()))
