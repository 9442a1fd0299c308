"""The probe: it learns what it is shown, keeps its share aside, and counts rightly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.errors import InvalidRequest
from stages.data.picture_changes import faded, moved, tinted
from stages.evaluation import probe as probes
from stages.evaluation.probe import (
    COLOURS,
    Labelled,
    Probe,
    at_probe_size,
    check,
    is_kept,
    judge,
    judge_tensors,
    load_probe,
    palette,
    style_of_unseen,
    train_probe,
)
from stages.training.checkpoint import save_checkpoint


def coloured(kept: bool) -> Labelled:  # noqa: FBT001
    """Six concepts, each a place of a square, in three styles that differ in its colour."""
    colours = torch.tensor([[0.8, -0.6, -0.6], [0.7, 0.2, -0.6], [-0.5, -0.5, 0.6]])
    pixels, concepts, styles, held = [], [], [], []
    for concept in range(6):
        for style in range(3):
            picture = torch.ones(3, 64, 64)
            top, left = 22 * (concept // 3) + 8, 18 * (concept % 3) + 4
            picture[:, top : top + 14, left : left + 14] = colours[style][:, None, None]
            pixels.append(picture)
            concepts.append(concept)
            styles.append(style)
            held.append(kept and (concept + style) % 6 == 0)
    return Labelled(
        names=tuple("abcdef"),
        pixels=torch.stack(pixels),
        concept=torch.tensor(concepts),
        style=torch.tensor(styles),
        held=torch.tensor(held),
        unseen=torch.stack(pixels[:3]),
        unseen_style=torch.tensor(styles[:3]),
    )


def test_it_learns_concepts_and_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some steps it names both, also of renderings kept from it."""
    # Fifteen renderings: batches of 48 would show each three times over.
    monkeypatch.setattr(probes, "BATCH", 16)
    # Three colours are told apart long before three hundred steps.
    monkeypatch.setattr(probes, "STYLE_STEPS", 60)
    known = coloured(kept=True)
    lines: list[str] = []
    probe = train_probe(known, steps=60, report=lines.append)
    found = check(probe, known)
    assert found["learnt, moved anew"].top1 > 0.8
    assert found["kept"].top5 == found["kept, moved"].top5 == 1.0
    assert found["kept"].style == style_of_unseen(probe, known) == 1.0
    assert lines[0].startswith("concept step 0: loss")
    assert any(line.startswith("style step 0: loss") for line in lines)


def test_the_palette_of_two_colours() -> None:
    """Shares of the ink, white left out, as square roots, but for rounding."""
    picture = torch.ones(1, 3, 64, 64)
    middle = (2 * 5 + 1) / COLOURS - 1  # level 5 of the grid
    picture[:, :, :10] = -1 + 1 / COLOURS  # level 0
    picture[:, :, 10:40] = middle
    found = palette(picture)[0]
    assert (found > 0.01).nonzero().flatten().tolist() == [0, 5 * (COLOURS**2 + COLOURS + 1)]
    assert found[found > 0.01].tolist() == pytest.approx([0.25**0.5, 0.75**0.5], abs=1e-3)
    assert palette(torch.ones(1, 3, 64, 64)).sum() == 0


def test_counting() -> None:
    """Top-1, top-5 and style of fixed answers; pictures without a style do not count."""

    class Fixed(torch.nn.Module):
        """Ranks concept 0 first, 1 second and so on; always style 2."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            order = -torch.arange(9.0).expand(len(x), 9)
            return order, torch.tensor([[0.0, 0.0, 1.0]]).expand(len(x), 3)

    x = torch.zeros(4, 3, 64, 64)
    found = judge_tensors(Fixed(), x, np.array([0, 4, 5, 0]), [2, 1, None, 2])  # type: ignore[arg-type]
    assert (found.top1, found.top5, found.pictures) == (0.5, 0.75, 4)
    assert found.style == pytest.approx(2 / 3)


def test_pictures_as_bytes() -> None:
    """8-bit pictures are judged as the tensors they stand for."""
    torch.manual_seed(0)
    probe = Probe(4).eval()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    found = judge(probe, pictures, [0, 1, 2], [0, 1, 2])
    assert 0 <= found.top1 <= found.top5 == 1.0


@pytest.mark.parametrize("change", [moved, faded, tinted])
def test_changes_keep_white_white(change: Callable[..., torch.Tensor]) -> None:
    """The ground stays white where nothing was, within blur and noise."""
    out = change(torch.ones(8, 3, 64, 64), torch.Generator().manual_seed(1))
    assert out.shape == (8, 3, 64, 64)
    assert (out.mean() - 1).abs() < 0.01


def test_tint_changes_colour_alone() -> None:
    """Every pixel of a picture by the same factors: an even colour stays even."""
    out = tinted(torch.full((4, 3, 8, 8), 0.2), torch.Generator().manual_seed(1))
    assert out.std(dim=(2, 3)).max() < 1e-6
    assert out[:, :, 0, 0].std() > 0.02


def test_a_probe_comes_back(tmp_path: Path) -> None:
    """As it was saved, with its facts; where there is none, the command that makes one is named."""
    torch.manual_seed(0)
    probe = Probe(3).eval()
    facts = {"names": ["a", "b", "c"], "steps": 1}
    save_checkpoint(tmp_path / "probe", {"probe": probe.state_dict()}, facts)
    again, found = load_probe(tmp_path / "probe")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(again(x)[0], probe(x)[0])
    assert found["names"] == ["a", "b", "c"]
    with pytest.raises(InvalidRequest, match="cascade probe"):
        load_probe(tmp_path / "none")


def test_pictures_of_another_size_are_brought_to_64() -> None:
    """Larger ones are averaged down, smaller ones enlarged."""
    flat = np.full((128, 128, 3), 9, np.uint8)
    assert (at_probe_size(flat) == 9).all()
    assert at_probe_size(flat[:8, :8]).shape == (64, 64, 3)


def test_the_share_kept_is_decided_by_name() -> None:
    """About one in twelve, the same ones every time."""
    kept = [is_kept(f"{n} noto") for n in range(2400)]
    assert kept == [is_kept(f"{n} noto") for n in range(2400)]
    assert 140 < sum(kept) < 260
