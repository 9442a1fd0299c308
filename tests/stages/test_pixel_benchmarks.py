"""The benchmarks of pixel families in miniature: exactness, coding across engines, orders."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from benchmarks import pixel_coder, pixel_exactness, pixel_orders, pixel_quality
from benchmarks.base_quality import make_judge
from benchmarks.lib.exact_answers import answered
from benchmarks.lib.prompt_lists import PromptQuestion
from benchmarks.lib.range_coder import encoded
from cascade.pixels.family import pixel_specs
from cascade.pixels.order import at_once, checkerboard
from cascade.pixels.pictures import Recorded
from cascade.types import Array
from stages.data.dataset import Dataset
from stages.evaluation.pixel_bits import held_out, parent_picture
from stages.evaluation.probe import Probe
from tests.support.pixel_bundle import write_pixel_bundle
from tests.support.tiny_pixels import TINY_SECOND, stirred_pixels
from tests.support.tiny_training import tiny_dataset

DATA = tiny_dataset(size=256)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder of questions, graphs and first answers."""

    folder: Path
    questions: dict[str, Array]

    def row(self, engine: str, **options: object) -> dict[str, float]:
        """What a row of the table counts."""
        usual = {"threads": 1, "batch": 1, "order": "passes", "decisions": 1 << 62}
        return answered(Namespace(folder=self.folder, engine=engine, **{**usual, **options}))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """One held-out picture of a small stage, answered by ONNX Runtime."""
    folder = tmp_path_factory.mktemp("exactness")
    questions = pixel_exactness.questions_of(TINY_SECOND, DATA, 1)
    pixel_exactness.prepare(stirred_pixels(TINY_SECOND), TINY_SECOND, questions, folder)
    found = Prepared(folder, questions)
    assert found.row("ort")["decisions"] == 3 * 64 * 3
    return found


@pytest.mark.parametrize("engine", ["ort", "bare", "torch"])
def test_no_engine_differs_from_the_first_answers(prepared: Prepared, engine: str) -> None:
    """Mixed passes in one batch, bit for bit; the decisions are those of the first answers too."""
    found = prepared.row(engine, batch=3, order="mixed")
    assert (found["features_differ"], found["logits_differ"]) == (0, 0)
    assert found["logits"] == 3 * 64 * 3 * (16 + 256 + TINY_SECOND.scheme.candidates + 1)


def test_one_changed_logit_is_counted(prepared: Prepared) -> None:
    """A single other bit among the first answers is one logit that differs."""
    file = prepared.folder / "first.high.npy"
    kept = np.load(file)
    changed = kept.copy()
    changed[0, 0, 0, 0] += 1
    np.save(file, changed)
    found = prepared.row("ort")
    np.save(file, kept)
    assert (found["logits_differ"], found["largest_difference_16"]) == (1, 1)


def test_bytes_of_one_engine_are_a_picture_of_another(prepared: Prepared) -> None:
    """ONNX Runtime codes, PyTorch decodes; bytes are within 1 % and two of what is claimed."""
    ways = pixel_coder.coders(TINY_SECOND, prepared.folder)
    truth = held_out(DATA, 16)[0][0]
    parent = parent_picture(TINY_SECOND, truth)[None]
    text = {n: prepared.questions[n][:1] for n in ("context", "context_mask", "aug_level")}
    recorded = Recorded(truth[None])
    ways["ort"].walk(parent, text, recorded)
    code = encoded(recorded.intervals)
    assert 8 * len(code) == pytest.approx(recorded.bits.sum(), rel=0.01, abs=16)
    assert np.array_equal(pixel_coder.decoded(ways["torch"], code, parent, text), truth)


APART = pixel_orders.OrderRun(
    name="apart", size=16, low=8, parent="box", order=at_once("box"), apart=True
)
SLICES = pixel_orders.OrderRun(
    name="slices", size=8, low=None, parent="none", order=checkerboard(4, 16), slices=2
)


@pytest.mark.parametrize("run", [APART, SLICES], ids=lambda run: run.name)
def test_an_order_is_trained_and_measured(
    run: pixel_orders.OrderRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step, then the bits of two pictures; the row is read back the second time."""
    data = tiny_dataset(size=256, width=384)

    def opened(path: Path) -> Dataset:
        del path
        return data

    monkeypatch.setattr(pixel_orders, "data_of", opened)
    monkeypatch.setattr(pixel_orders, "BATCH", 2)
    pixel_orders.decoded.cache_clear()
    args = Namespace(folder=tmp_path, data=Path("none"), steps=1)
    row = pixel_orders.result(run, args)
    assert 0 < row["bits_per_value"] < 10
    assert row["steps"] == 1
    monkeypatch.setattr(pixel_orders, "trained", None)
    assert pixel_orders.result(replace(run), args) == row
    assert isinstance(run.preset.network(), nn.Module)


def test_the_probe_names_what_a_cascade_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the defaults with the distance between seeds, and a row for each setting of a sweep."""
    bundle = write_pixel_bundle(tmp_path / "bundle")
    names = [example.icon for example in DATA.examples if not example.held_out]
    judged = make_judge(Probe(len(names)).eval(), names, DATA, 32)
    asked = [
        PromptQuestion("a red cat", names[0], "noto"),
        PromptQuestion("apple", names[1], "noto"),
    ]
    row = pixel_quality.measured(bundle.folder, judged, asked, 2)
    assert (row["bundle"], row["pictures"]) == ("tiny-pixels", 2)
    assert row["over_seeds"] > 0
    monkeypatch.setattr(pixel_quality, "TEMPERATURES", (4, 16))
    monkeypatch.setattr(pixel_quality, "FLOORS", (0,))
    rows = pixel_quality.swept(bundle.folder, judged, asked)
    assert [row["temperature_16"] for row in rows] == [4, 16]
    monkeypatch.setattr(pixel_quality, "SIZE", 32)
    monkeypatch.setattr(pixel_quality, "COLUMNS", 1)
    drawn = pixel_quality.sheet(bundle.folder, DATA, asked[:1])
    assert drawn.size == (pixel_quality.CELL, 3 * pixel_quality.CELL)
    assert len(drawn.getcolors(drawn.width * drawn.height) or ()) > 1
    monkeypatch.setattr(pixel_quality, "GUIDANCES", (16, 32))
    guided = pixel_quality.guided(bundle.folder, judged, asked)
    readers = sorted(guided[0]["guidance_16"])
    assert readers
    assert len(guided) == 2 ** len(readers)
    assert guided[-1]["guidance_16"] == dict.fromkeys(readers, 32)
    monkeypatch.setattr(pixel_quality, "LATER_FLOORS", (0, 16))
    floors = pixel_quality.floored(bundle.folder, judged, asked)
    assert [row["floor_16"] for row in floors] == [0, 16, "of the truth"]
    assert floors[0]["specks"] > floors[1]["specks"], "random weights draw noise"
    begun = pixel_quality.begun(bundle.folder, judged, DATA, asked)
    assert [row["first"] for row in begun] == [
        spec.name for spec in pixel_specs(bundle.manifest.components)
    ]
    assert all(0 <= row["top1"] <= row["top5"] <= 1 for row in (*rows, *begun))


def test_specks_are_what_stands_alone() -> None:
    """A dot is one, a line of one pixel is as many as it is long, an edge and a square are none."""
    white = np.full((12, 12, 3), 255, np.uint8)
    dot, line, square, faint = (white.copy() for _ in range(4))
    dot[5, 5] = 0
    line[5] = 0
    square[4:7, 4:] = 0
    faint[5, 5] = 200
    counts = [pixel_quality.specks(picture) for picture in (white, dot, line, square, faint)]
    assert counts == [0, 1, 12, 0, 0]
