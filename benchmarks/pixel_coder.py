"""Do bytes that one engine's weights made give the picture again with another engine's?

    python -m benchmarks.pixel_coder --data emoji.npz --checkpoints checkpoints [--json FILE]

Held-out pictures are coded by an arithmetic coder with the decisions' own integer weights, with
each engine, and decoded with each. One value that another engine weighs differently makes another
picture of all that follows. Prints the bits that the weights claim, those that were written, and
how many pictures came back; for the trained network and for the float one with the same weights.
"""

import argparse
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.exact_answers import ANSWERS, Run, open_run
from benchmarks.lib.range_coder import Decoding, encoded
from benchmarks.lib.record import write_record
from benchmarks.pixel_exactness import prepare, questions_of
from cascade.pixels.logits import Logits
from cascade.pixels.pictures import Decider, Pictures, Recorded
from cascade.types import Array, ImageU8
from stages.data.dataset import open_dataset
from stages.evaluation.pixel_bits import held_out, parent_picture
from stages.networks.exact import frozen
from stages.pixel_presets import PIXEL_PRESETS, PixelPreset
from stages.training.checkpoint import load_part

ENGINES = ("ort", "openvino", "torch")


@dataclass(frozen=True, slots=True)
class Coder:
    """A stage on one engine."""

    preset: PixelPreset
    body: Run
    heads: Run

    def walk(self, parent: Array, text: Mapping[str, Array], decider: Decider) -> ImageU8:
        """One picture `[H, W, 3]` from its parent `[1, h, w, 3]`, decided by the decider."""
        size = (self.preset.resolution, self.preset.resolution)
        pictures = Pictures(self.preset.scheme, size, parent)
        kind: Any = "exact" if self.preset.exact else "float"
        for index, step in enumerate(pictures.passes):
            features = self.body({**pictures.begin(index), **text})["features"]
            for channel in step.channels:
                asked = {**pictures.heads_inputs(channel), "features": features}
                found = self.heads(asked)
                logits = Logits(*(found[name][0] for name in ANSWERS), kind)
                pictures.decide(channel, logits, decider)
        return pictures.canvas.values()[0]


def coders(preset: PixelPreset, folder: Path) -> dict[str, Coder]:
    """The stage on every engine."""
    found = {}
    for engine in ENGINES:
        how = Namespace(folder=folder, engine=engine, threads=1)
        found[engine] = Coder(preset, *(open_run(how, role) for role in ("body", "heads")))
    return found


def decoded(coder: Coder, data: bytes, parent: Array, text: Mapping[str, Array]) -> ImageU8 | None:
    """The picture, or None where the bytes led out of what can be."""
    try:
        return coder.walk(parent, text, Decoding(data))
    except (ArithmeticError, ValueError, IndexError):
        return None


def measured(preset: PixelPreset, args: argparse.Namespace) -> dict[str, Any]:
    """Claimed bits, written bytes, and the pictures that came back, by both engines."""
    network = preset.network()
    network.load_state_dict(load_part(args.checkpoints / preset.name, "ema"))
    data = open_dataset(args.data)
    questions = questions_of(preset, data, args.pictures)
    pictures = held_out(data, preset.resolution)[0][: args.pictures]
    names = [n for n in ("context", "context_mask", "aug_level") if n in questions]
    claimed, written = 0.0, 0
    back: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(frozen(network), preset, questions, Path(name))
        ways = coders(preset, Path(name))
        for number, truth in enumerate(pictures):
            row = slice(number * preset.passes, number * preset.passes + 1)
            text = {n: questions[n][row] for n in names}
            parent = parent_picture(preset, truth)[None]
            for first, coder in ways.items():
                recorded = Recorded(truth[None])
                coder.walk(parent, text, recorded)
                code = encoded(recorded.intervals)
                claimed, written = claimed + float(recorded.bits.sum()), written + len(code)
                for second, other in ways.items():
                    same = np.array_equal(decoded(other, code, parent, text), truth)  # type: ignore[arg-type]
                    key = f"{first} to {second}"
                    back[key] = back.get(key, 0) + same
    return {
        "pictures": len(pictures),
        "claimed_bits": round(claimed / len(ENGINES), 1),
        "written_bits": round(8 * written / len(ENGINES), 1),
        "more": round(8 * written / claimed - 1, 5),
        "came_back": back,
    }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="prepared data")
    add("--checkpoints", type=Path, required=True, help="folder of trained stages")
    add("--stage", default="px32", help="preset (%(default)s)")
    add("--pictures", type=int, default=6, help="held-out pictures (%(default)s)")
    add("--json", type=Path, default=None, help="where the figures go")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for net in ("exact", "float"):
        preset = replace(PIXEL_PRESETS[args.stage], exact=net == "exact")
        found[net] = measured(preset, args)
        print(f"{args.stage}, {net}: {found[net]}", flush=True)
    write_record(args.json, {"stage": args.stage, **found})


if __name__ == "__main__":
    main()
