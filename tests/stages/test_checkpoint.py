"""Checkpoints: small pieces, replaced as a whole, never lost half way."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cascade.errors import InvalidRequest
from stages.training.checkpoint import (
    PIECE_BYTES,
    cut,
    has_checkpoint,
    load_metadata,
    load_part,
    save_checkpoint,
)


def weights(value: float, count: int = 3) -> dict[str, Tensor]:
    """A few tensors of one value."""
    return {f"w{n}": torch.full((n + 1, 2), value) for n in range(count)}


def write(folder: Path, value: float) -> None:
    """A whole checkpoint of one value."""
    save_checkpoint(folder, {"ema": weights(value), "state": weights(-value)}, {"step": value})


def stored(folder: Path) -> tuple[float, float, float]:
    """The values in a checkpoint."""
    ema, state = load_part(folder, "ema"), load_part(folder, "state")
    return load_metadata(folder)["step"], float(ema["w2"][0, 0]), float(state["w2"][0, 0])


def test_round_trip(tmp_path: Path) -> None:
    """Groups, tensors and facts come back; the folder holds nothing else."""
    folder = tmp_path / "deep" / "base"
    write(folder, 2.0)
    assert stored(folder) == (2.0, 2.0, -2.0)
    assert load_part(folder, "ema").keys() == weights(0).keys()
    assert {p.name for p in folder.iterdir()} == {
        "checkpoint.json", "ema-00.safetensors", "state-00.safetensors"
    }  # fmt: skip


def test_a_new_one_takes_the_old_ones_place(tmp_path: Path) -> None:
    """Nothing of an older, larger checkpoint is left, in the folder or beside it."""
    folder = tmp_path / "base"
    save_checkpoint(folder, {"ema": weights(1), "state": weights(1), "more": weights(1)}, {})
    write(folder, 3.0)
    assert stored(folder) == (3.0, 3.0, -3.0)
    assert not list(folder.glob("more*"))
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_pieces_stay_small(tmp_path: Path) -> None:
    """Many tensors of some megabytes become files under 16 MB that come back in order."""
    many = {f"w{n}": torch.full((1_100_000,), float(n)) for n in range(8)}
    folder = tmp_path / "base"
    save_checkpoint(folder, {"ema": many}, {})
    sizes = [p.stat().st_size for p in folder.glob("ema-*")]
    assert len(sizes) == 3
    assert max(sizes) < 16_000_000
    loaded = load_part(folder, "ema")
    assert list(loaded) == list(many)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in many.items())


def test_cut_keeps_order_and_bounds() -> None:
    """Pieces are as full as they may be; one tensor beyond the bound stands alone."""
    sizes = [PIECE_BYTES // 2, PIECE_BYTES // 2, 1, PIECE_BYTES + 5, 7]
    named = {str(n): torch.zeros(size, dtype=torch.uint8) for n, size in enumerate(sizes)}
    assert [list(piece) for piece in cut(named)] == [["0", "1"], ["2"], ["3"], ["4"]]


def test_an_interrupted_write_leaves_the_old_one(tmp_path: Path) -> None:
    """A write that fails in its second group leaves the old checkpoint; the next write succeeds."""
    folder = tmp_path / "base"
    write(folder, 1.0)
    broken = {"z": torch.zeros(1, dtype=torch.complex64)}
    with pytest.raises(KeyError):
        save_checkpoint(folder, {"ema": weights(2.0), "state": broken}, {"step": 2.0})
    assert stored(folder) == (1.0, 1.0, -1.0)
    write(folder, 3.0)
    assert stored(folder) == (3.0, 3.0, -3.0)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_an_interruption_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    """The old checkpoint already moved aside and the new one not yet in place: it is put back."""
    folder = tmp_path / "base"
    write(folder, 1.0)
    folder.rename(tmp_path / "base.old")
    assert has_checkpoint(folder)
    assert stored(folder) == (1.0, 1.0, -1.0)


def test_no_checkpoint_says_so(tmp_path: Path) -> None:
    """A folder that is missing or holds none is refused with the command to run."""
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        assert not has_checkpoint(folder)
        with pytest.raises(InvalidRequest, match="cascade train"):
            load_metadata(folder)
