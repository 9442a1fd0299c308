"""The probe: it learns what it is shown, keeps its share aside, and counts rightly."""

import numpy as np
import pytest
import torch

from stages.probe import Labelled, Probe, check, is_kept, judge, judge_tensors, moved, train_probe


def coloured(kept: bool) -> Labelled:  # noqa: FBT001
    """Six concepts, each one colour, in three styles that differ in a bright bar."""
    generator = torch.Generator().manual_seed(0)
    colours = 1.6 * torch.rand(6, 3, generator=generator) - 0.8
    pixels, concepts, styles, held = [], [], [], []
    for concept in range(6):
        for style in range(3):
            picture = colours[concept][:, None, None].expand(3, 64, 64).clone()
            picture[:, 16 * style + 12 : 16 * style + 20, 16:48] = 1.0
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
    )


def test_it_learns_concepts_and_styles() -> None:
    """After some steps it names both, also of renderings kept from it."""
    known = coloured(kept=True)
    lines: list[str] = []
    probe = train_probe(known, steps=60, report=lines.append)
    found = check(probe, known)
    assert found["learnt, moved anew"].top1 > 0.9
    assert found["kept"].top5 == 1.0
    assert found["learnt, moved anew"].style > 0.8
    assert lines[0].startswith("step 0: loss")


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


def test_movement_keeps_white_white() -> None:
    """The ground stays white where nothing was; what moves stays in range of blur and noise."""
    out = moved(torch.ones(8, 3, 64, 64), torch.Generator().manual_seed(1))
    assert out.shape == (8, 3, 64, 64)
    assert (out.mean() - 1).abs() < 0.01


def test_the_share_kept_is_decided_by_name() -> None:
    """About one in twelve, the same ones every time."""
    kept = [is_kept(f"{n} noto") for n in range(2400)]
    assert kept == [is_kept(f"{n} noto") for n in range(2400)]
    assert 140 < sum(kept) < 260
