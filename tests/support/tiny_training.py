"""Networks, presets and pictures in miniature, for the tests of training and export.

Everything is made from fixed seeds in milliseconds; the pictures are smooth and pack well.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from cascade.types import Array, ImageU8
from stages.data.dataset import Dataset, Example, pack_image
from stages.networks.efficient_unet import BlockConfig, EfficientUNet, UNetConfig
from stages.reference import BASE, SR256

WIDTH = 12
"""Width of the context embeddings."""


def tiny_unet(*, attention: str, upscales: bool = False, levels: int = 2) -> UNetConfig:
    """A network of one or two levels, the deepest with attention."""
    blocks = [
        BlockConfig(
            channels=8 * (1 + level),
            res_blocks=1,
            attention=attention if level == levels - 1 else "none",  # type: ignore[arg-type]
        )
        for level in range(levels)
    ]
    return UNetConfig(
        stem_channels=8,
        blocks=tuple(blocks),
        context_width=WIDTH,
        text_width=16,
        vector_width=16,
        head_channels=8,
        out_res_blocks=1,
        residual_std=0.25,
        upscales=upscales,
    )


TINY_BASE = replace(BASE, resolution=32, crop=32, batch=4, unet=tiny_unet(attention="self"))
SELF_BASE = replace(TINY_BASE, unet=tiny_unet(attention="self", levels=1))
"""The smallest base stage; `TINY_BASE` has two levels."""
FACTS = {"step": 7, "samples": 28, "minutes": 1.5, "loss": 0.123456, "pictures": 3}
"""What a checkpoint says of its training."""
TINY_SR = replace(
    SR256,
    resolution=32,
    low_resolution=8,
    crop=16,
    batch=4,
    unet=tiny_unet(attention="cross", upscales=True),
)


def stirred(config: UNetConfig, seed: int = 0) -> EfficientUNet:
    """A network none of whose parameters is zero or one throughout, in evaluation mode.

    A fresh network answers 0 whatever it is shown: it would pass every test of independence.
    """
    torch.manual_seed(seed)
    network = EfficientUNet(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval().requires_grad_(requires_grad=False)


def unet_inputs(
    config: UNetConfig, *, rows: int = 3, tokens: int = 5, size: tuple[int, int] = (16, 16)
) -> dict[str, Tensor]:
    """Random inputs of a network; every token counts."""
    generator = torch.Generator().manual_seed(rows * 100 + tokens)

    def image() -> Tensor:
        return torch.randn(rows, 3, *size, generator=generator)

    inputs = {
        "x_t": image(),
        "t": torch.rand(rows, generator=generator),
        "context": torch.randn(rows, tokens, config.context_width, generator=generator),
        "context_mask": torch.ones(rows, tokens),
    }
    if config.upscales:
        inputs["low_res"] = image()
        inputs["aug_level"] = torch.rand(rows, generator=generator)
    return inputs


def smooth_picture(size: int, seed: int) -> ImageU8:
    """Slow waves of colour on a white ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = [
        np.sin(2 * np.pi * (rng.normal() * x + rng.normal() * y) + rng.normal()) for _ in range(3)
    ]
    return np.asarray(np.rint(127.5 + 120 * np.stack(waves, axis=-1)), np.uint8)


def tiny_dataset(
    *, size: int = 32, width: int = WIDTH, pictures: list[ImageU8] | None = None
) -> Dataset:
    """Six pictures of `size`, each with three captions; the last two are held out.

    One caption has the name, one a keyword, one leaves the style open. Caption `n` has `2 + n % 3`
    tokens.
    """
    pictures = pictures or [smooth_picture(size, seed) for seed in range(6)]
    count = len(pictures)
    rng = np.random.default_rng(0)
    embeddings: list[Array] = [
        rng.standard_normal((2 + n % 3, width)).astype(np.float32) for n in range(3 * count)
    ]
    packed = tuple(pack_image(pixels) for pixels in pictures)
    return Dataset(
        examples=tuple(
            Example(f"icon-{n}", "noto", n >= 4, (3 * n, 3 * n + 1, 3 * n + 2))
            for n in range(count)
        ),
        captions=tuple(
            caption
            for n in range(count)
            for caption in (f"icon {n}, noto style", f"word {n}, noto style", f"icon {n}")
        ),
        pictures_256=packed,
        pictures_1024=(b"",) * count,
        embeddings=tuple(embeddings),
    )


class Recorder(nn.Module):
    """A network that answers zero and writes down what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Tensor]] = []

    def forward(self, **inputs: Tensor) -> Tensor:
        """Zeros of the picture's shape."""
        self.calls.append(inputs)
        return torch.zeros_like(inputs["x_t"])
