"""Which order of pixels takes how many bits per value? The same net for the same steps in each.

    python -m benchmarks.pixel_orders --data emoji.npz --folder runs [--steps 400] [--only NAME ...]

Every run trains one small exact network (`WIDTH` channels, `BLOCKS` blocks) on the same samples and
counts the bits of the held-out pictures with the decisions' own integer weights. A run that is cut
off goes on from its checkpoint; a finished one is read back. Prints the table and writes
`orders.json` into the folder.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.lib.record import write_record
from cascade.pixels.guess import GuessRule
from cascade.pixels.order import (
    GIVEN,
    OrderSpec,
    ParentKind,
    at_once,
    checkerboard,
    columns_rows,
    group_map,
    rows_columns,
    squares,
    subscale,
)
from cascade.pixels.pictures import Recorded
from cascade.pixels.scheme import PassScheme
from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, open_dataset
from stages.data.loader import pad
from stages.data.pixel_batch import PixelBatch
from stages.data.pixel_loader import PixelLoader
from stages.data.pixel_passes import one_pass
from stages.data.slice_passes import SliceLoader, slice_size, whole_slices
from stages.evaluation.pixel_bits import (
    CODECS,
    codec_bits,
    held_out,
    load_frozen,
    parent_picture,
)
from stages.evaluation.pixel_sampling import Walker
from stages.networks.pixel_network import CHANNELS, NIBBLES, PixelHeads, PixelNetwork
from stages.pixel_presets import AROUND, PARENTS, PixelPreset, sliced
from stages.training.pixel_objective import (
    CENTRE,
    asked,
    bits,
    equal_of,
    features_of,
    head_logits,
    log_probability,
    symbols_of,
)
from stages.training.pixel_recipe import pixel_recipe
from stages.training.trainer import TrainOptions, open_trainer

WIDTH, BLOCKS, FEATURES, HEAD = 32, 3, 32, 48
BATCH, CROP = 24, 16
STEPS = 300
POSITIONS = 64
"""Positions of a picture that a step learns from at most, so that all orders cost alike."""
GUESSES: dict[ParentKind, GuessRule] = {"none": "zero", "subsample": "parent", "box": "cell"}
TOGETHER = 18
"""Pictures of one evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderRun:
    """One row of the table."""

    name: str
    size: int = 32
    low: int | None = 16
    parent: ParentKind
    order: OrderSpec
    planes: tuple[int, ...] = (8,)
    channels: Literal["heads", "passes"] = "heads"
    copies: bool = True
    keep_mean: bool = False
    trained_as: str | None = None
    """The run whose weights these are, if nothing of its own is trained."""
    slices: int = 0
    """Period of subscale slices with a masked raster inside, 3 bits before 5: the paper's form."""
    apart: bool = False
    """Channels of a pixel are drawn independently too: nothing is told of the earlier ones."""
    share: float = 1.0
    """Of the steps of the others."""

    @property
    def preset(self) -> PixelPreset:
        """The stage that is trained."""
        scheme = PassScheme(
            parent=self.parent,
            order=self.order,
            guess=GUESSES[self.parent],
            planes=self.planes,
            channel_passes=self.channels,
            parent_copies=PARENTS if self.copies and self.low else (),
            canvas_copies=AROUND if self.copies else (),
            keep_mean=self.keep_mean,
        )
        if self.slices:
            scheme = sliced(self.size, self.slices)
        scheme.check(self.name)
        return PixelPreset(
            name=(self.trained_as or self.name).replace(" ", "_"),
            resolution=self.size,
            low_resolution=self.low,
            scheme=scheme,
            width=WIDTH,
            blocks=BLOCKS,
            features=FEATURES,
            head_width=HEAD,
            batch=BATCH,
            crop=self.size if self.slices else CROP,
            slices=self.slices,
        )


def runs() -> list[OrderRun]:
    """All rows, the most telling first: whatever is cut off is at the end."""
    box, corner = {"parent": "box"}, {"parent": "subsample"}
    whole = {"parent": "none", "low": None, "order": checkerboard(4, 16)}
    found = [
        OrderRun(name="32 means: independent", order=at_once("box"), apart=True, **box),
        OrderRun(name="32 means: at once", order=at_once("box"), **box),
        OrderRun(name="32 means: 2x2 (checkerboard 4)", order=squares("box"), **box),
        OrderRun(name="32 corners: independent", order=at_once("subsample"), apart=True, **corner),
        OrderRun(name="32 corners: at once", order=at_once("subsample"), **corner),
        OrderRun(name="32 corners: columns, rows", order=columns_rows("subsample"), **corner),
        OrderRun(name="32 corners: 2x2", order=squares("subsample"), **corner),
        OrderRun(name="32 corners: rows, columns", order=rows_columns("subsample"), **corner),
        OrderRun(name="32 means: checkerboard 8", order=checkerboard(4, 8), **box),
        OrderRun(name="32 means: checkerboard 16", order=checkerboard(4, 16), **box),
        OrderRun(name="32 means: columns, rows", order=columns_rows("box"), **box),
        OrderRun(name="32 means: rows, columns", order=rows_columns("box"), **box),
        OrderRun(name="32 means: 2x2, no copies", order=squares("box"), copies=False, **box),
        OrderRun(
            name="32 corners: 2x2, no copies", order=squares("subsample"), copies=False, **corner
        ),
        OrderRun(
            name="32 means: 2x2, channel passes", order=squares("box"), channels="passes", **box
        ),
        OrderRun(name="32 means: slices of 4, bits 3+5", order=subscale(4), planes=(3, 5), **box),
        OrderRun(name="32 means: 2x2, bits 3+5", order=squares("box"), planes=(3, 5), **box),
        OrderRun(name="32 means: checkerboard 2", order=checkerboard(2, 2), **box),
        OrderRun(name="16 means: checkerboard 4", size=16, low=8, order=squares("box"), **box),
        OrderRun(
            name="32 means of 8: checkerboard 8", low=8, order=checkerboard(4, 8), share=2.0, **box
        ),
        OrderRun(name="16 means: checkerboard 8", size=16, low=8, order=checkerboard(4, 8), **box),
        OrderRun(
            name="32 means of 8: checkerboard 16",
            low=8, order=checkerboard(4, 16), share=2.0, **box,
        ),
        OrderRun(name="64 corners: at once", size=64, low=32, order=at_once("subsample"), **corner),
        OrderRun(name="64 corners: 2x2", size=64, low=32, order=squares("subsample"), **corner),
        OrderRun(
            name="64 corners: columns, rows",
            size=64, low=32, order=columns_rows("subsample"), **corner,
        ),
        OrderRun(name="64 means: at once", size=64, low=32, order=at_once("box"), **box),
        OrderRun(name="64 means: 2x2", size=64, low=32, order=squares("box"), **box),
        OrderRun(name="16 whole: checkerboard 16", size=16, **whole),
        OrderRun(name="16 whole: slices of 2, raster, bits 3+5", size=16, slices=2, **whole),
        OrderRun(name="32 whole: checkerboard 16", **whole),
        OrderRun(name="32 whole: slices of 4, raster, bits 3+5", slices=4, **whole),
    ]  # fmt: skip
    kept = []
    for run in found:
        kept.append(run)
        if run.parent == "box" and not run.apart:
            kept.append(
                replace(run, name=f"{run.name}, mean kept", keep_mean=True, trained_as=run.name)
            )
    return kept


@lru_cache(maxsize=1)
def data_of(path: Path) -> Dataset:
    """The prepared data, read once."""
    return open_dataset(path)


class FewPositions(PixelLoader):
    """Batches that ask about some of a pass's positions, and pictures decoded once for all runs."""

    def __init__(self, every: PixelLoader, preset: PixelPreset) -> None:
        """Nothing is decoded.

        Args:
            every: has the pictures.
            preset: of the stage to be trained.
        """
        self.data, self.pictures, self.preset = every.data, every.pictures, preset

    def batch(self, count: int, generator: torch.Generator, *, shrink: int = 1) -> PixelBatch:
        """See `PixelLoader.batch`."""
        found = super().batch(count, generator, shrink=shrink)
        size = found.targets.shape[1]
        some = torch.randperm(size, generator=generator)[:POSITIONS].sort().values
        kept = ("targets", "values", "guess", "candidates", "usable", "weights")
        few = {name: getattr(found, name)[:, some] for name in kept}
        few["weights"] = few["weights"] / few["weights"].sum(1, keepdim=True)
        return replace(found, **few)


@lru_cache(maxsize=1)
def decoded(path: Path) -> PixelLoader:
    """The training pictures, decoded once."""
    return PixelLoader(data_of(path), runs()[0].preset)


def bits_apart(model: nn.Module, batch: PixelBatch) -> Tensor:
    """Bits of values `[B, n, 3]` drawn independently, channels of a pixel too."""
    heads = model.heads
    assert isinstance(heads, PixelHeads)
    features = features_of(model, batch)
    symbols = symbols_of(batch)
    wanted = symbols.permute(2, 0, 1).flatten(0, 1)
    # One symbol for all: it says which channel is asked about and nothing of the earlier ones.
    earlier, _ = asked(batch, torch.full_like(symbols, CENTRE))
    match = batch.usable.repeat(CHANNELS, 1, 1)
    repeated = features.repeat(CHANNELS, 1, 1)
    answers = heads(repeated, earlier, match.float(), wanted // NIBBLES)
    copied = match & equal_of(batch).permute(3, 0, 1, 2).flatten(0, 1)
    found = log_probability(head_logits(answers, batch), match, wanted, copied)
    return -found.unflatten(0, (CHANNELS, len(features))).permute(1, 2, 0) / math.log(2)


class Apart:
    """Training of `bits_apart`; see `PixelObjective`."""

    def loss(self, model: nn.Module, batch: PixelBatch, generator: torch.Generator) -> Tensor:
        """Bits per value of every sample, `[B]`."""
        del generator
        return bits_apart(model, batch).mean(dim=(1, 2))


def trained(run: OrderRun, data: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Train the run's network to its last step; what it took."""
    preset = run.preset
    options = TrainOptions(
        folder=folder, minutes=1e6, steps=round(steps * run.share), cool_down=0.0,
        checkpoint_minutes=2.0,
    )  # fmt: skip
    loader: PixelLoader = FewPositions(decoded(data), preset)
    if run.slices:
        loader = SliceLoader(data_of(data), preset)
    recipe = pixel_recipe(preset, loader, 0)
    if run.apart:
        recipe = replace(recipe, objective=Apart())
    trainer = open_trainer(preset, loader, options, recipe)
    begun = time.process_time()
    for _ in trainer.run():
        pass
    return {
        "steps": trainer.step,
        "samples": trainer.samples,
        "train_cpu_s": round(time.process_time() - begun, 1),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }


def parents_of(preset: PixelPreset, pictures: Sequence[ImageU8]) -> Array:
    """What the stage starts from, `[B, h, w, 3]` uint8."""
    return np.stack([parent_picture(preset, picture) for picture in pictures])


def walked(
    preset: PixelPreset, network: PixelNetwork, pictures: Sequence[ImageU8], texts: Sequence[Array]
) -> Array:
    """Bits of every value by the weights that decide, `[B, H * W * 3]`."""
    truth = np.stack(pictures)
    recorded = Recorded(truth)
    parents = None if preset.low_resolution is None else parents_of(preset, pictures)
    made = Walker(preset, network).walk(parents, texts, recorded)
    assert np.array_equal(made, truth)
    return recorded.bits.reshape(len(truth), -1)


@torch.no_grad()
def walked_apart(
    preset: PixelPreset, network: PixelNetwork, pictures: Sequence[ImageU8], texts: Sequence[Array]
) -> Array:
    """The same of an independent stage, whose one pass has no place in the product."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    none = torch.zeros(len(pixels))
    batch = one_pass(preset, pixels, pixels.float(), none.long(), none, pad(list(texts)))
    bits = np.zeros((len(pixels), preset.resolution**2, 3))
    bits[:, batch.targets[0].numpy()] = bits_apart(network, batch).numpy()
    return bits.reshape(len(pixels), -1)


@torch.no_grad()
def walked_slices(
    preset: PixelPreset, network: PixelNetwork, pictures: Sequence[ImageU8], texts: Sequence[Array]
) -> Array:
    """The same of a subscale stage, a slice in one run; not by place: `[B, H * W * 3]`."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    none, size = torch.zeros(len(pixels)), slice_size(preset)
    found = torch.zeros(len(pixels))
    for last in range(size - 1, preset.passes, size):
        at = torch.full((len(pixels),), last)
        batch = one_pass(preset, pixels, pixels.float(), at, none, pad(list(texts)))
        found += bits(network, whole_slices(preset, pixels, batch)).sum((1, 2))
    values = preset.resolution**2 * CHANNELS
    return (found[:, None] / values).expand(-1, values).numpy()


def measured(run: OrderRun, data: Dataset, folder: Path) -> dict[str, Any]:
    """Bits of the held-out pictures by the weights that decide, and what codecs take."""
    preset = run.preset
    network = load_frozen(preset, folder / preset.name)
    pictures, texts = held_out(data, run.size)
    parents = parents_of(preset, pictures) if run.low else []
    walk = walked_apart if run.apart else walked_slices if run.slices else walked
    begun = time.process_time()
    bits = np.concatenate(
        [
            walk(preset, network, pictures[at : at + TOGETHER], texts[at : at + TOGETHER])
            for at in range(0, len(pictures), TOGETHER)
        ]
    )
    seconds = time.process_time() - begun
    begun = time.process_time()
    if not run.apart:
        walked(preset, network, pictures[:1], texts[:1])
    alone = time.process_time() - begun
    groups = group_map(preset.scheme.order, run.size, run.size).reshape(-1).repeat(3)
    per_group = [float(bits[:, groups == g].mean()) for g in range(preset.scheme.order.count)]
    codecs = {
        codec.lower(): round(
            codec_bits(pictures, codec) - codec_bits(list(parents), codec) / preset.factor**2,
            4,
        )
        for codec in CODECS
    }
    return {
        "passes": preset.passes,
        "pictures": len(pictures),
        "bits_per_value": round(float(bits.mean()), 4),
        "bits_per_made_value": round(float(bits[:, groups != GIVEN].mean()), 4),
        "groups": [round(found, 3) for found in per_group],
        "s_per_picture": round(seconds / len(pictures), 4),
        "s_alone": round(alone, 4),
        **codecs,
    }


def result(run: OrderRun, args: argparse.Namespace) -> dict[str, Any]:
    """A row, from its file if it is there."""
    file = args.folder / f"{run.name.replace(' ', '_').replace('/', '-')}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    data = data_of(args.data)
    facts = {} if run.trained_as else trained(run, args.data, args.folder, args.steps)
    row = {"name": run.name, **measured(run, data, args.folder), **facts}
    file.write_text(json.dumps(row) + "\n")
    return row


def main() -> None:
    """Train what is not trained yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="prepared data")
    parser.add_argument("--folder", type=Path, required=True, help="of checkpoints and rows")
    parser.add_argument("--steps", type=int, default=STEPS, help="of every run (%(default)s)")
    parser.add_argument("--only", nargs="+", default=None, help="begins of runs' names")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for run in runs():
        if args.only is not None and not run.name.startswith(tuple(args.only)):
            continue
        rows.append(result(run, args))
        print(
            f"{run.name:44} {rows[-1]['passes']:6} {rows[-1]['bits_per_value']:9.3f} "
            f"{rows[-1]['png']:7.3f} {rows[-1]['webp']:7.3f}",
            flush=True,
        )
    write_record(args.folder / "orders.json", {"steps": args.steps, "batch": BATCH, "rows": rows})


if __name__ == "__main__":
    main()
