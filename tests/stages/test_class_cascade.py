"""The benchmark of the class-conditional cascade in miniature: every figure is there."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import class_cascade
from benchmarks.class_cascade import cells, measure, table, train_in_turns, trainers, write_sheet
from benchmarks.lib import class_cells
from benchmarks.lib.class_cells import Judging, asked_classes, true_renderings
from stages.data.dataset import Dataset
from stages.evaluation import class_sampling
from stages.evaluation.class_sampling import ClassRun
from stages.evaluation.probe import Probe
from stages.training.checkpoint import load_metadata
from tests.support.tiny_refinement import TINY_CLASSES, TINY_REFINE
from tests.support.tiny_training import smooth_picture, tiny_dataset

FOREVER = float("inf")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Four classes and two held-out concepts; presets and networks are tiny."""
    for module in (class_cascade, class_cells):
        monkeypatch.setattr(module, "CLASS8", TINY_CLASSES)
        monkeypatch.setattr(module, "REFINE32", TINY_REFINE)
    for module in (class_cells, class_sampling):
        monkeypatch.setattr(module, "FACTOR", 2)
    monkeypatch.setattr(class_cascade, "SHOWN", 4)
    return tiny_dataset(pictures=[smooth_picture(256, seed) for seed in range(6)])


def test_networks_are_trained_in_turns_then_judged(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All to the same step, and no further when repeated; one row and one picture row a cell."""
    for preset in (TINY_CLASSES, TINY_REFINE):
        for _ in range(2):
            train_in_turns(trainers(data, tmp_path, preset), 1, FOREVER)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert len(folders) == 5
    assert {load_metadata(tmp_path / name)["step"] for name in folders} == {1}

    true = true_renderings(data)
    torch.manual_seed(0)
    judging = Judging(
        Probe(4).eval(), true.names, true, asked_classes(4, 4), ClassRun(steps=1, batch=4)
    )
    rows, drawn = measure(tmp_path, judging)
    assert len(rows) == 3 + len(cells())
    assert [row.get("level") for row in rows[3:]] == [cell.level for cell in cells()]
    assert all(("psnr_db" in row) != bool(row["truncated"]) for row in rows[3:])
    assert len(table(rows).splitlines()) == 2 + len(rows)
    write_sheet(tmp_path / "sheet.png", judging, drawn)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 16 * 4, 2 * 16 * (1 + len(drawn)))
    capsys.readouterr()
