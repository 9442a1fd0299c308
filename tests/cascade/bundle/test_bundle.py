"""A bundle on disk: it opens, hands out checked bytes, and refuses what changed."""

import hashlib
import os
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.errors import ManifestError
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A fresh bundle that a test may damage."""
    return write_tiny_bundle(tmp_path / "bundle")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_bundle_opens(bundle: Bundle) -> None:
    """Opening gives the manifest and its id; the path may be text."""
    again = open_bundle(str(bundle.folder))
    assert again.manifest == bundle.manifest
    assert again.bundle_id == bundle.manifest.bundle_id
    again.verify_files()


def test_reading_gives_the_bytes_that_were_hashed(bundle: Bundle) -> None:
    """Every listed file comes back as it lies on disk, and its hash is the manifest's."""
    for entry in bundle.manifest.files:
        data = bundle.read(entry.name)
        assert data == (bundle.folder / entry.name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256


@pytest.mark.parametrize("name", ["manifest.json", "other.onnx", "../bundle/base.onnx", ""])
def test_only_listed_files_are_read(bundle: Bundle, name: str) -> None:
    """A name that the manifest does not list is refused, wherever it leads."""
    with pytest.raises(ManifestError, match="not listed"):
        bundle.read(name)


def test_changed_bytes_are_refused(bundle: Bundle) -> None:
    """One flipped bit of the right size opens, but neither reads nor verifies."""
    flip(bundle.folder / "base.onnx")
    opened = open_bundle(bundle.folder)
    with pytest.raises(ManifestError, match=r"base\.onnx: sha256"):
        opened.read("base.onnx")
    with pytest.raises(ManifestError, match=r"base\.onnx: sha256"):
        opened.verify_files()
    opened.read("sr16.onnx")


@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_is_refused_at_opening(bundle: Bundle, change: int) -> None:
    """A truncated or longer file is found before anything is read."""
    path = bundle.folder / "sr16.onnx"
    path.write_bytes((path.read_bytes() + b"\0")[: path.stat().st_size + change])
    with pytest.raises(ManifestError, match=r"sr16\.onnx: the manifest says"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_size_after_opening_is_refused(bundle: Bundle, change: int) -> None:
    """The size is checked again when the file is read."""
    path = bundle.folder / "sr16.onnx"
    path.write_bytes((path.read_bytes() + b"\0")[: path.stat().st_size + change])
    with pytest.raises(ManifestError, match=r"sr16\.onnx"):
        bundle.read("sr16.onnx")


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    """A listed file that is not there is an error at opening."""
    (bundle.folder / "tokenizer.json").unlink()
    with pytest.raises(ManifestError, match=r"tokenizer\.json is listed .* missing"):
        open_bundle(bundle.folder)


def test_a_component_that_runs_elsewhere_needs_no_file(bundle: Bundle) -> None:
    """A sparse bundle opens and has its id; what is to run and is not there, is named."""
    for name in bundle.files_of([3]):
        (bundle.folder / name).unlink()
    sparse = open_bundle(bundle.folder, runs=(0, 1, 2))
    assert sparse.bundle_id == bundle.bundle_id
    assert [sparse.has(at) for at in range(4)] == [True, True, True, False]
    sparse.verify_files((0, 1, 2))
    words = r"sr32\.onnx is listed .* missing.* sr32 cannot run .*`cascade bundle pull"
    for refused in (lambda: sparse.require([3]), lambda: sparse.read("sr32.onnx")):
        with pytest.raises(ManifestError, match=words):
            refused()


def test_an_extra_file_is_named(bundle: Bundle) -> None:
    """Nothing lies in a bundle that the manifest does not list."""
    (bundle.folder / "readme.txt").write_text("hello")
    with pytest.raises(ManifestError, match=r"'readme\.txt' .* not listed"):
        open_bundle(bundle.folder)


def test_what_is_no_bundle_says_so(tmp_path: Path, bundle: Bundle) -> None:
    """A missing folder, a file, and a folder without a manifest are refused in words."""
    with pytest.raises(ManifestError, match="not a folder"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match="not a folder"):
        open_bundle(bundle.folder / "base.onnx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"manifest\.json: No such file"):
        open_bundle(tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_without_waiting(bundle: Bundle) -> None:
    """A pipe in the place of the manifest is refused at once: nobody writes to it, ever."""
    (bundle.folder / "manifest.json").unlink()
    os.mkfifo(bundle.folder / "manifest.json")
    with pytest.raises(ManifestError, match="not a plain file"):
        open_bundle(bundle.folder)
