"""Inputs that nothing can use, in one folder: missing, empty, of another kind, and binary."""

from pathlib import Path

from tests.support.tiny_bundle import write_tiny_bundle


def make_wrong_inputs(folder: Path) -> None:
    """A bundle `tiny`, an empty folder `empty`, and the files `file`, `text`, `list`, `bin`."""
    write_tiny_bundle(folder / "tiny")
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"")
    (folder / "text").write_text("hello {")
    (folder / "list").write_text("[]")
    (folder / "bin").write_bytes(bytes(range(256)) * 10)
