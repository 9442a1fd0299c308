"""Bits per value of held-out pictures under a stage of pixels by groups, and what codecs take.

Knows networks, pictures and orders; not training.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from cascade.pixels.order import distinct
from cascade.pixels.scheme import PassScheme
from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, Example, box_average
from stages.data.loader import kept_examples, pad
from stages.data.pixel_passes import one_pass
from stages.networks.exact import check_bound, frozen
from stages.networks.subscale_network import AnyPixelNetwork
from stages.pixel_presets import PixelPreset
from stages.training.checkpoint import load_metadata, load_part
from stages.training.pixel_objective import bits

Codec = Literal["PNG", "WEBP"]
CODECS: tuple[Codec, ...] = ("PNG", "WEBP")
TOGETHER = 9
"""Pictures of one evaluation."""


@dataclass(frozen=True, slots=True)
class HeldOutBits:
    """Bits of a stage's pictures given their parents.

    Attributes:
        per_value: over all values of the picture, those that the parent gives included.
        groups: bits per value of each group's own values.
    """

    per_value: float
    groups: tuple[float, ...]


def evaluate_pixels(
    preset: PixelPreset, data: Dataset, checkpoint: Path, *, limit: int
) -> dict[str, Any]:
    """A stage on held-out pictures, as JSON values.

    Args:
        preset: the stage.
        data: the prepared data set.
        checkpoint: folder of its weights.
        limit: most pictures to take.

    Raises:
        InvalidRequest: there is no checkpoint in the folder.
        UnsupportedModel: its weights are not exact.
    """
    network = load_frozen(preset, checkpoint)
    pictures, texts = held_out(data, preset.resolution)
    pictures, texts = pictures[:limit], texts[:limit]
    found = bits_per_value(network, preset, pictures, texts)
    factor = preset.factor
    parents = [] if factor == 1 else [parent_picture(preset, picture) for picture in pictures]
    codecs = {
        # What a codec takes more for the picture than for its parent.
        codec.lower(): codec_bits(pictures, codec) - codec_bits(parents, codec) / factor**2
        for codec in CODECS
    }
    return {
        "stage": preset.name,
        "step": load_metadata(checkpoint)["step"],
        "pictures": len(pictures),
        "bits_per_value": round(found.per_value, 4),
        "groups": [round(group, 4) for group in found.groups],
        **{f"{name}_bits_per_value": round(bits, 4) for name, bits in codecs.items()},
        "bound": round(check_bound(network), 4),
    }


def caption_bits(
    preset: PixelPreset, data: Dataset, checkpoint: Path, *, limit: int
) -> dict[str, float]:
    """What the text tells a stage: bits per value with a picture's own caption, and with another's.

    The other one is that of the picture half the list away, so of another concept.

    Args:
        preset: a stage that reads the text.
        data: the prepared data set.
        checkpoint: folder of its weights.
        limit: most pictures to take, of those trained on and of those held out, evenly spread.

    Raises:
        InvalidRequest: there is no checkpoint in the folder.
        UnsupportedModel: its weights are not exact.
    """
    network, found = load_frozen(preset, checkpoint), {}
    for kind, is_held_out in (("trained", False), ("held_out", True)):
        examples = list(kept_examples(data, held_out=is_held_out))
        count = min(limit, len(examples))
        chosen = [examples[i * len(examples) // count] for i in range(count)]
        pictures, texts = captioned(data, preset.resolution, chosen)
        half = len(texts) // 2
        others = texts[half:] + texts[:half]
        for said, read in (("own", texts), ("other", others)):
            bits_found = bits_per_value(network, preset, pictures, read)
            found[f"{kind}_with_{said}_caption"] = round(bits_found.per_value, 4)
    return found


def parent_picture(preset: PixelPreset, picture: ImageU8) -> ImageU8:
    """What the stage starts from when it makes a picture `[H, W, 3]`: `[h, w, 3]`."""
    return parent_by(preset.scheme, preset.factor, picture)


def parent_by(scheme: PassScheme, factor: int, picture: ImageU8) -> ImageU8:
    """The parent of a picture `[H, W, 3]`, so many times smaller: its means or its corners."""
    if scheme.parent == "box":
        return box_average(picture, factor)
    return picture[::factor, ::factor]


def load_frozen(preset: PixelPreset, checkpoint: Path) -> AnyPixelNetwork:
    """The averaged weights of a checkpoint as they are exported."""
    network = preset.network()
    network.load_state_dict(load_part(checkpoint, "ema"))
    return frozen(network)


def held_out(data: Dataset, resolution: int) -> tuple[list[ImageU8], list[Array]]:
    """The held-out pictures at a resolution and the embeddings of their plain captions."""
    return captioned(data, resolution, kept_examples(data, held_out=True))


def captioned(
    data: Dataset, resolution: int, examples: Iterable[tuple[int, Example]]
) -> tuple[list[ImageU8], list[Array]]:
    """Pictures `[H, W, 3]` at a resolution and the embeddings of their plain captions.

    Args:
        data: the prepared data set.
        resolution: height and width.
        examples: of it, with their numbers.
    """
    pictures, texts = [], []
    for index, example in examples:
        drawn_at = max(64, resolution)
        step = drawn_at // resolution
        pictures.append(np.ascontiguousarray(data.picture(index, drawn_at)[::step, ::step]))
        texts.append(data.embeddings[example.captions[0]])
    return pictures, texts


@torch.no_grad()
def bits_per_value(
    network: nn.Module, preset: PixelPreset, pictures: Sequence[ImageU8], texts: Sequence[Array]
) -> HeldOutBits:
    """The bits of pictures under a network.

    Args:
        network: frozen (`stages.networks.exact.frozen`), so that these are the exported bits.
        preset: its stage.
        pictures: `[H, W, 3]` uint8 each, of the stage's resolution.
        texts: `[tokens, width]` each.
    """
    sums, counts = np.zeros(preset.passes), np.zeros(preset.passes)
    values = 0
    for at in range(0, len(pictures), TOGETHER):
        stack = np.stack(pictures[at : at + TOGETHER])
        values += stack.size
        pixels = torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
        text = pad(list(texts[at : at + TOGETHER]))
        for group in range(preset.passes):
            groups = torch.full((len(pixels),), group)
            batch = one_pass(preset, pixels, pixels.float(), groups, torch.zeros(len(pixels)), text)
            found = bits(network, batch)
            real = torch.from_numpy(distinct(batch.targets.numpy()))[..., None]
            real = real & batch.decides[:, None]
            sums[group] += float(found[real].sum())
            counts[group] += int(real.sum())
    return HeldOutBits(float(sums.sum()) / values, tuple((sums / counts).tolist()))


def codec_bits(pictures: Sequence[ImageU8], codec: Codec) -> float:
    """Bits per value that a lossless codec takes, picture by picture, `[H, W, 3]` uint8 each."""
    if not pictures:
        return 0.0
    size = 0
    for picture in pictures:
        out, image = io.BytesIO(), Image.fromarray(picture)
        if codec == "PNG":
            image.save(out, "PNG", optimize=True)
        else:
            image.save(out, "WEBP", lossless=True, quality=100, method=6)
        size += len(out.getvalue())
    return 8 * size / sum(p.size for p in pictures)
