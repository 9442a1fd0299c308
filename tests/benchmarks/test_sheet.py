"""The sheets: every prompt drawn, nothing left out, and another bundle beside it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import sheet
from benchmarks.lib.local_cascade import open_cascade
from cascade.bundle.bundle import open_bundle
from cascade.tuning.options import EngineOptions
from runtime_client import Client
from tests.support.tiny_bundle import write_tiny_bundle


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture file."""
    with Image.open(path) as image:
        return image.size


def test_all_sheets_of_two_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and sizes: eight to a row, a prompt's pictures of both bundles in one frame."""
    one = write_tiny_bundle(tmp_path / "one", steps=1).folder
    other = write_tiny_bundle(tmp_path / "other", steps=2).folder
    out = tmp_path / "pictures"
    arguments = ["--bundle", str(one), "--before", str(other), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["sheet", *arguments])
    sheet.main()
    sizes = {path.name: size_of(path) for path in out.iterdir() if path.suffix != ".txt"}
    frame = (2 * 32 + 2 * sheet.GAP, 32 + 2 * sheet.GAP)
    assert sizes == {
        "sheet-8.webp": (64, 64),
        "sheet-16.webp": (128, 128),
        "sheet-32.webp": (256, 256),
        "seeds.webp": (8 * 16, 16),
        "guidance.webp": (5 * 16, 16),
        "before-after.webp": (8 * frame[0], 8 * frame[1]),
        "crops.webp": (frame[0], 5 * frame[1]),
    }
    assert len((out / "prompts.txt").read_text().splitlines()) == 64


def test_the_pictures_are_those_of_a_client(tmp_path: Path) -> None:
    """Drawn without a server, the same pixels."""
    bundle = write_tiny_bundle(tmp_path / "tiny", steps=2)
    cascade, _ = open_cascade(open_bundle(bundle.folder), EngineOptions(threads=1))
    drawn = cascade.pictures("a red apple", seed=7)
    with Client(bundle.folder, cut=4, threads=1) as client:
        result = client.generate("a red apple", seed=7)
    for picture, expected in zip(drawn, result.images.values(), strict=True):
        assert np.array_equal(picture, expected)


def test_a_row_that_is_not_full_ends_white() -> None:
    """Nine pictures of one pixel, eight to a row."""
    tiled = sheet.tile([np.full((1, 1, 3), n, np.uint8) for n in range(9)])
    assert tiled[:, :, 0].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [8] + [255] * 7]
