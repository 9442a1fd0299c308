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
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cascade.codecs.image import to_network
from cascade.errors import InvalidRequest
from cascade.types import Array, ImageU8
from stages.data.captions import STYLES
from stages.data.dataset import Dataset
from stages.data.picture_changes import faded, moved, tinted
from stages.training.checkpoint import has_checkpoint, load_metadata, load_part

SIZE = 64
SHAPE_WIDTHS = (24, 48, 96, 160)
COLOURS = 24
"""Levels per channel that the palette tells apart."""
GROUND = 0.75
"""Pixels whose darkest channel is above this are ground, also where it has drifted from white."""
DROPPED = 0.3
HELD_SHARE = 12
"""One rendering in so many is kept from the probe's training, decided by a hash."""
BATCH = 48
RATE = 2e-3
SMOOTHING = 0.1
STYLE_STEPS, STYLE_RATE, STYLE_DECAY = 300, 0.05, 2e-4


class Probe(nn.Module):
    """One small network and one table of colours, one per question.

    Shapes, pooled over quarters of the picture and at their strongest, name the concept. The style
    is in the palette: each set draws everything in its own few colours. A network asked for both
    learnt styles by heart: which renderings of a concept it had been shown. Of concepts that
    nobody was shown it named the style of 69 %, the palette that of 98 %.
    """

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.shapes = tower(SHAPE_WIDTHS)
        self.drop = nn.Dropout(DROPPED)
        self.concept = nn.Linear(5 * SHAPE_WIDTHS[-1], concepts)
        self.style = nn.Linear(COLOURS**3, len(STYLES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, 3, 64, 64]` in [-1, 1] to logits of concepts `[B, N]` and styles `[B, 3]`."""
        return self.name_concept(x), self.name_style(x)

    def name_concept(self, x: Tensor) -> Tensor:
        """Logits of concepts, `[B, N]`."""
        h = self.shapes(x)
        quarters = functional.adaptive_avg_pool2d(h, 2).flatten(1)
        return self.concept(self.drop(torch.cat([quarters, h.amax((2, 3))], 1)))

    def name_style(self, x: Tensor) -> Tensor:
        """Logits of styles, `[B, 3]`."""
        logits: Tensor = self.style(palette(x))
        return logits


def palette(x: Tensor) -> Tensor:
    """How much of a picture is in which colour, the white ground left out.

    Pictures are `[B, 3, H, W]` in [-1, 1]; what is found is `[B, COLOURS^3]`, at least 0.
    Every pixel is shared out to the eight nearest colours of an even grid; square roots, so that
    small patches count too.
    """
    places = ((x.clamp(-1, 1) + 1) / 2 * COLOURS - 0.5).clamp(0, COLOURS - 1)
    low = places.floor().long().clamp(max=COLOURS - 2)
    high_share = places - low
    ink = (x.amin(1) < GROUND).float()
    # Scattered, not one-hot: that would be COLOURS^3 numbers for every pixel.
    found = torch.zeros(len(x), COLOURS**3)
    for corner in product((0, 1), repeat=3):
        share, index = ink, torch.zeros_like(low[:, 0])
        for channel, upper in enumerate(corner):
            part = high_share[:, channel]
            share = share * (part if upper else 1 - part)
            index = index * COLOURS + low[:, channel] + upper
        found.scatter_add_(1, index.flatten(1), share.flatten(1))
    return (found / found.sum(1, keepdim=True).clamp(min=1)).sqrt()


def tower(widths: Sequence[int]) -> nn.Sequential:
    """Per width a strided convolution and one more, each normalised."""
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        for channels, stride in ((before, 2), (width, 1)):
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
        before = width
    return nn.Sequential(*layers)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Real renderings and what they show.

    Attributes:
        names: the concepts, in the order of the probe's logits.
        pixels: `[N, 3, 64, 64]` in [-1, 1].
        concept: `[N]`, numbers into `names`.
        style: `[N]`, numbers into `STYLES`.
        held: `[N]`, true for renderings kept from the probe's training.
        unseen: `[M, 3, 64, 64]`, renderings of concepts that the cascade was not trained on.
        unseen_style: `[M]`, their styles.
    """

    names: tuple[str, ...]
    pixels: Tensor
    concept: Tensor
    style: Tensor
    held: Tensor
    unseen: Tensor
    unseen_style: Tensor


def labelled(data: Dataset) -> Labelled:
    """The renderings of every concept that the cascade was trained on."""
    shown = [i for i, example in enumerate(data.examples) if not example.held_out]
    names = tuple(dict.fromkeys(data.examples[i].icon for i in shown))
    examples = [data.examples[i] for i in shown]
    others = [i for i, example in enumerate(data.examples) if example.held_out]

    def planar(indices: Sequence[int]) -> Tensor:
        pictures = [to_network(at_probe_size(data.picture(i, SIZE)))[0] for i in indices]
        return torch.from_numpy(np.stack(pictures))

    return Labelled(
        names=names,
        pixels=planar(shown),
        concept=torch.tensor([names.index(e.icon) for e in examples]),
        style=torch.tensor([STYLES.index(e.style) for e in examples]),
        held=torch.tensor([is_kept(f"{e.icon} {e.style}") for e in examples]),
        unseen=planar(others),
        unseen_style=torch.tensor([STYLES.index(data.examples[i].style) for i in others]),
    )


def is_kept(name: str) -> bool:
    """Whether a rendering is kept from the probe, decided by its name alone."""
    return hashlib.sha256(name.encode()).digest()[1] % HELD_SHARE == 0


def train_probe(
    known: Labelled,
    *,
    steps: int,
    seed: int = 0,
    bf16: bool = False,
    report: Callable[[str], None],
) -> Probe:
    """A probe trained on the renderings that are not kept from it.

    Args:
        known: the renderings.
        steps: of training the names of concepts; those of styles need `STYLE_STEPS`.
        seed: of weights and draws.
        bf16: mixed precision, if the chip has it.
        report: called with a line now and then.
    """
    torch.manual_seed(seed)
    probe = Probe(len(known.names))
    shown = torch.nonzero(~known.held).flatten()
    generator = torch.Generator().manual_seed(seed)

    def concept_loss() -> Tensor:
        picked = shown[torch.randint(len(shown), (BATCH,), generator=generator)]
        pixels = tinted(moved(known.pixels[picked], generator), generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = probe.name_concept(pixels)
        return functional.cross_entropy(
            logits.float(), known.concept[picked], label_smoothing=SMOOTHING
        )

    concept = [*probe.shapes.parameters(), *probe.concept.parameters()]
    optimizer = torch.optim.AdamW(concept, lr=RATE, weight_decay=0.02)
    descend(optimizer, concept_loss, steps, lambda line: report(f"concept {line}"))
    train_style(probe, known, seed=seed, report=report)
    return probe.eval()


def train_style(
    probe: Probe, known: Labelled, *, seed: int = 0, report: Callable[[str], None]
) -> None:
    """Train the probe's names of styles, which share nothing with those of concepts."""
    shown = torch.nonzero(~known.held).flatten()
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        picked = shown[torch.randint(len(shown), (BATCH,), generator=generator)]
        pixels = faded(known.pixels[picked], generator)
        # Three styles over thousands of colours: without it single renderings are learnt by heart.
        spread = STYLE_DECAY * probe.style.weight.square().sum()
        return functional.cross_entropy(probe.name_style(pixels), known.style[picked]) + spread

    optimizer = torch.optim.Adam(probe.style.parameters(), lr=STYLE_RATE)
    descend(optimizer, loss, STYLE_STEPS, lambda line: report(f"style {line}"))


def descend(
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[], Tensor],
    steps: int,
    report: Callable[[str], None],
) -> None:
    """So many steps, the learning rate falling to nothing as a cosine.

    Args:
        optimizer: of the parameters that are trained; its rate is where the cosine begins.
        loss_of: the mean loss of a new batch, a scalar.
        steps: how many.
        report: called with a line now and then.
    """
    rate = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            report(f"step {step}: loss {loss.item():.3f}")


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
        InvalidRequest: there is none.
    """
    if not has_checkpoint(folder):
        raise InvalidRequest(
            f"checkpoints: no probe in {folder}: train it with `cascade probe`",
            field="checkpoints",
        )
    facts = load_metadata(folder)
    probe = Probe(len(facts["names"]))
    probe.load_state_dict(load_part(folder, "probe"))
    return probe.eval(), facts


def at_probe_size(picture: ImageU8) -> ImageU8:
    """The picture at 64x64, whatever the size of the base stage that drew it."""
    if picture.shape[:2] == (SIZE, SIZE):
        return picture
    # Means of whole blocks, as the data set's own smaller pictures are made.
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
    x = torch.from_numpy(np.stack([to_network(at_probe_size(picture))[0] for picture in pictures]))
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
    """The probe on real renderings: those it learnt from, moved anew, and those kept from it.

    A rendering kept from it is harder than a generated picture: that one is to look like a
    rendering in its style, which the probe mostly knows; this one can be known by the other styles
    alone.
    """
    generator = torch.Generator().manual_seed(99)
    found = {}
    for name, chosen, move in (
        ("learnt, moved anew", ~known.held, True),
        ("kept", known.held, False),
        ("kept, moved", known.held, True),
    ):
        x = known.pixels[chosen]
        concepts, styles = known.concept[chosen].numpy(), known.style[chosen].tolist()
        shapes, colours = x, x
        if move:
            shapes, colours = tinted(moved(x, generator), generator), faded(x, generator)
        style = judge_tensors(probe, colours, concepts, styles).style
        found[name] = replace(judge_tensors(probe, shapes, concepts, styles), style=style)
    return found


@torch.no_grad()
def style_of_unseen(probe: Probe, known: Labelled) -> float:
    """Share of the renderings of unseen concepts whose style it names."""
    return float((probe.name_style(known.unseen).argmax(1) == known.unseen_style).float().mean())
