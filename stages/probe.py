"""The probe: a small classifier that names concept and style of a 64x64 picture.

Trained on real renderings only, moved, turned and blurred at random; a share of the renderings is
kept from it, to know how far its word counts. Asked about generated pictures it says whether they
show what the prompt asked for. Knows pictures and their labels; not how pictures were made.

References:
    Ravuri and Vinyals 2019 (arXiv 1905.10887) for judging a generator by a classifier; there it is
    trained on generated pictures, here on real ones.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cascade.types import Array, ImageU8
from stages.captions import STYLES
from stages.checkpoint import has_checkpoint, load_facts, load_part
from stages.dataset import Dataset
from stages.loader import to_planar

SIZE = 64
WIDTHS = (32, 64, 128, 192)
HELD_SHARE = 12
"""One rendering in so many is kept from the probe's training, decided by a hash."""
BATCH = 64
RATE = 2e-3
TURN, SHIFT, ZOOM = math.radians(10), 0.12, 0.15
"""Largest turn, largest shift as a share of half the picture, largest change of size."""


class Probe(nn.Module):
    """Four strided convolutions with normalisation, then one linear layer per question."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            before = width
        self.features = nn.Sequential(*layers)
        flat = before * (SIZE >> len(WIDTHS)) ** 2
        self.concept = nn.Linear(flat, concepts)
        self.style = nn.Linear(flat, len(STYLES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, 3, 64, 64]` in [-1, 1] to logits of concepts `[B, N]` and styles `[B, 3]`."""
        h = self.features(x).flatten(1)
        return self.concept(h), self.style(h)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Real renderings and what they show.

    Attributes:
        names: the concepts, in the order of the probe's logits.
        pixels: `[N, 3, 64, 64]` in [-1, 1].
        concept: `[N]`, numbers into `names`.
        style: `[N]`, numbers into `STYLES`.
        held: `[N]`, true for renderings kept from the probe's training.
    """

    names: tuple[str, ...]
    pixels: Tensor
    concept: Tensor
    style: Tensor
    held: Tensor


def labelled(data: Dataset) -> Labelled:
    """The renderings of every concept that the cascade was trained on."""
    shown = [i for i, example in enumerate(data.examples) if not example.held_out]
    names = tuple(dict.fromkeys(data.examples[i].icon for i in shown))
    examples = [data.examples[i] for i in shown]
    return Labelled(
        names=names,
        pixels=torch.from_numpy(np.stack([to_planar(data.picture(i, SIZE)) for i in shown])),
        concept=torch.tensor([names.index(e.icon) for e in examples]),
        style=torch.tensor([STYLES.index(e.style) for e in examples]),
        held=torch.tensor([is_kept(f"{e.icon} {e.style}") for e in examples]),
    )


def is_kept(name: str) -> bool:
    """Whether a rendering is kept from the probe, decided by its name alone."""
    return hashlib.sha256(name.encode()).digest()[1] % HELD_SHARE == 0


def moved(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Every picture turned, shifted, sized and blurred by its own random amount; edges white."""
    count = len(pixels)

    def draw(reach: float) -> Tensor:
        return reach * (2 * torch.rand(count, generator=generator) - 1)

    turn, zoom = draw(TURN), 1 + draw(ZOOM)
    rows = torch.stack(
        [
            torch.stack([turn.cos() * zoom, -turn.sin() * zoom, draw(SHIFT)], 1),
            torch.stack([turn.sin() * zoom, turn.cos() * zoom, draw(SHIFT)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(rows, list(pixels.shape), align_corners=False)
    # White is 1: outside the picture the difference to white is 0.
    out = functional.grid_sample(pixels - 1, grid, align_corners=False) + 1
    blur = torch.rand(count, generator=generator)[:, None, None, None]
    soft = functional.avg_pool2d(functional.pad(out, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noise = 0.1 * torch.rand(count, generator=generator)[:, None, None, None]
    out = out + blur * (soft - out)
    return out + noise * torch.randn(out.shape, generator=generator)


def train_probe(
    known: Labelled, *, steps: int, seed: int = 0, report: Callable[[str], None]
) -> Probe:
    """A probe trained on the renderings that are not kept from it."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    probe = Probe(len(known.names))
    optimizer = torch.optim.AdamW(probe.parameters(), lr=RATE, weight_decay=0.02)
    shown = torch.nonzero(~known.held).flatten()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        picked = shown[torch.randint(len(shown), (BATCH,), generator=generator)]
        concept, style = probe(moved(known.pixels[picked], generator))
        loss = functional.cross_entropy(
            concept, known.concept[picked], label_smoothing=0.1
        ) + functional.cross_entropy(style, known.style[picked])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            report(f"step {step}: loss {loss.item():.3f}")
    return probe.eval()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How often the probe was right about some pictures."""

    top1: float
    top5: float
    style: float
    pictures: int


def load_probe(folder: Path) -> tuple[Probe, dict[str, Any]]:
    """A trained probe and what was kept with it: the names of its concepts, its own accuracy.

    Raises:
        FileNotFoundError: there is none.
    """
    if not has_checkpoint(folder):
        raise FileNotFoundError(f"no probe in {folder}: run `cascade probe` first")
    facts = load_facts(folder)
    probe = Probe(len(facts["names"]))
    probe.load_state_dict(load_part(folder, "probe"))
    return probe.eval(), facts


def at_probe_size(picture: ImageU8) -> ImageU8:
    """The picture at 64x64, whatever the size of the base stage that drew it."""
    if picture.shape[:2] == (SIZE, SIZE):
        return picture
    kind = Image.Resampling.BOX if len(picture) > SIZE else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((SIZE, SIZE), kind))


def judge(
    probe: Probe, pictures: Sequence[ImageU8], concepts: Sequence[int], styles: Sequence[int | None]
) -> Verdict:
    """Ask the probe about pictures.

    Args:
        probe: trained.
        pictures: `[H, H, 3]` uint8 each; brought to 64x64.
        concepts: what each should show.
        styles: in which style; None where none was asked for: not counted.
    """
    x = torch.from_numpy(np.stack([to_planar(at_probe_size(picture)) for picture in pictures]))
    return judge_tensors(probe, x, np.array(concepts), styles)


@torch.no_grad()
def judge_tensors(
    probe: Probe, x: Tensor, concepts: Array, styles: Sequence[int | None]
) -> Verdict:
    """The same for `[N, 3, 64, 64]` in [-1, 1]."""
    concept, style = (logits.numpy() for logits in probe(x))
    best = np.argsort(-concept, axis=1)[:, :5]
    right = best == concepts[:, None]
    asked = [(int(s), int(a)) for s, a in zip(style.argmax(axis=1), styles, strict=True)
             if a is not None]  # fmt: skip
    return Verdict(
        top1=float(right[:, 0].mean()),
        top5=float(right.any(axis=1).mean()),
        style=float(np.mean([s == a for s, a in asked])) if asked else float("nan"),
        pictures=len(x),
    )


def check(probe: Probe, known: Labelled) -> dict[str, Verdict]:
    """The probe on real renderings: those it learnt from, moved anew, and those kept from it."""
    generator = torch.Generator().manual_seed(99)
    found = {}
    for name, chosen in (("learnt, moved anew", ~known.held), ("kept", known.held)):
        x = known.pixels[chosen]
        x = moved(x, generator) if name != "kept" else x
        found[name] = judge_tensors(
            probe, x, known.concept[chosen].numpy(), known.style[chosen].tolist()
        )
    return found
