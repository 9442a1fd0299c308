"""A pipeline of diffusers from a folder, as another system of a run."""

from pathlib import Path

import numpy as np
import pytest

from bench.systems.other_systems import open_other
from bench.workload import WorkItem
from cascade.errors import InvalidRequest


def drawn(text: str, seed: int) -> np.ndarray:
    """The picture of a system."""
    pictures = []
    system = open_other(text, 1.0)
    item = WorkItem("a red apple", seed)
    system.run(item, lambda _name, image: pictures.append(image))
    assert system.describe()["pipeline"] == "IFPipeline"
    (picture,) = pictures
    return np.asarray(picture)


@pytest.mark.torch
def test_a_folder_of_diffusers_draws(tmp_path: Path) -> None:
    """One picture per request, by its seed."""
    pytest.importorskip("diffusers")
    from tests.support.tiny_if import base_pipeline

    base_pipeline(tmp_path / "tokenizer", 8).save_pretrained(tmp_path / "if")
    text = f"diffusers:{tmp_path / 'if'}"
    first = drawn(text, 1)
    assert (first.shape, first.dtype) == ((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(drawn(text, 1), first)
    assert (drawn(text, 2) != first).any()


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    """And nothing is looked up elsewhere."""
    for text in (f"diffusers:{tmp_path}", "diffusers:someone/model"):
        with pytest.raises(InvalidRequest, match="is no folder of a pipeline"):
            open_other(text, 1.0)
