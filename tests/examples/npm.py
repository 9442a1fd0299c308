"""The packages of the JavaScript client, from npm's registry or its cache.

Knows how npm fails where there is no network; not what the client does.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples/clients/javascript"
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH")
"""What npm prints where no registry answers; any other failure is ours."""
INSTALL = ("npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")


def install(folder: Path) -> None:
    """A copy of the client with its packages, exactly those of the lock file.

    Skips the test where node or a registry is missing.
    """
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(ROOT / "protos/cascade/v1/cascade.proto", folder)
    done = subprocess.run(
        [*INSTALL, "--fetch-retries=1", "--fetch-timeout=20000"], cwd=folder, capture_output=True,
        text=True, timeout=240, check=False,
    )  # fmt: skip
    if any(code in done.stderr for code in UNREACHABLE):
        pytest.skip(f"no registry of npm answers: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stdout + done.stderr
