"""An older commit's files beside this checkout's, for benchmarks that measure both in one run."""

import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The commit's files in a folder, removed at the end.

    Args:
        commit: that `git` knows.
        folder: does not exist yet.
    """
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        write_metadata(folder)
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def write_metadata(folder: Path) -> None:
    """What installing a checkout would say of it: older ones find their subcommands there."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = folder / "edge_cascade-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: edge-cascade\nVersion: 0.1.0\n"
    )
    groups = {"console_scripts": project["scripts"], **project.get("entry-points", {})}
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
