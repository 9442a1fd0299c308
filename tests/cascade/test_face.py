"""What `import cascade` gives: the errors, and nothing that takes time to load."""

import subprocess
import sys
from pathlib import Path

import cascade
from cascade import errors

LOADED = """
import sys
import cascade
print(*(name for name in ("numpy", "PIL", "argparse", "importlib.metadata") if name in sys.modules))
"""


def test_the_face_is_every_error_and_the_precisions() -> None:
    """Explicit re-exports and nothing else but submodules; the version is there too."""
    tree = {
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and v.__module__ == "cascade.errors"
    }
    folder = Path(cascade.__file__).parent
    names = {name for name in vars(cascade) if not name.startswith("_")}
    assert names - {path.stem for path in folder.iterdir()} == {*tree, "Precision"}
    assert cascade.__version__


def test_the_face_has_forty_lines_at_most() -> None:
    """It is read at a glance."""
    assert len(Path(cascade.__file__).read_text().splitlines()) <= 40


def test_the_face_loads_no_numpy() -> None:
    """Nor anything else that a help text would have to wait for."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
