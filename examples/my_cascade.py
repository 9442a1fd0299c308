"""A cascade of one's own, complete: tokenizer, text encoder, a 32x32 stage, a 32 -> 64 stage.

    cascade export --from torch examples.my_cascade:describe --out circles
    cascade verify circles
    cascade generate "a red circle" --bundle circles -o circle.png

Nothing here is trained: the networks are small enough to set by hand, so that what they paint is
known. They stand for yours. What matters is the input contract that their `forward` follows,
written down in `export/description.py`: every input is float32 and per sample, one batch
may hold different times and texts, and noise, guidance, thresholding and sampling stay outside.
"""

import json

import torch
from torch import Tensor, nn

from cascade.diffusion.spec import AugmentationSpec, GuidanceSpec, ThresholdSpec
from export.description import CascadeDescription, StageDescription, TextEncoderDescription

WORDS = {"[UNK]": 0, "a": 1, "circle": 2, "red": 3, "green": 4, "blue": 5, "white": 6}
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}
WIDTH = 4
"""Width of the embeddings: a colour, and a number that says that the word is one."""


class WordEncoder(nn.Module):
    """One row of a table per word."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.zeros(len(WORDS), WIDTH)
        for word, colour in COLOURS.items():
            rows[WORDS[word]] = torch.tensor([*colour, 1.0])
        self.table = nn.Embedding.from_pretrained(rows)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """`[B, L]` int64 tokens and their float mask to `[B, L, WIDTH]`."""
        return self.table(token_ids) * token_mask[:, :, None]


class Circle(nn.Module):
    """The base stage: a circle of the colour that the text names, on black."""

    def __init__(self, size: int) -> None:
        super().__init__()
        y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
        self.register_buffer("inside", torch.sigmoid((0.7 - (x**2 + y**2).sqrt()) * 20))
        self.blur = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        nn.init.constant_(self.blur.weight, 1 / 9)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        """The clean picture that it expects, `[B, 3, H, W]`: prediction `x0`."""
        words = context * context_mask[:, :, None]
        colour = words[:, :, :3].sum(1) / words[:, :, 3].sum(1).clamp(min=1)[:, None]
        painted = self.inside * (colour[:, :, None, None] + 1) - 1
        # Near the end it believes a little in what it sees.
        trust = 0.1 * (1 - t)[:, None, None, None]
        return (1 - trust) * painted + trust * self.blur(x_t)


class Sharpen(nn.Module):
    """Super-resolution: the enlarged picture, which the host supplies, with its contrast raised."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(6, 3, 1, bias=False)
        # `low_res` as it is, and a trace of `x_t`.
        weight = torch.cat([0.02 * torch.eye(3), torch.eye(3)], dim=1)
        self.mix.weight = nn.Parameter(weight[:, :, None, None])

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,
        context_mask: Tensor,
        low_res: Tensor,
        aug_level: Tensor,
    ) -> Tensor:
        """The clean picture that it expects, `[B, 3, H, W]`: prediction `x0`."""
        named = (context * context_mask[:, :, None])[:, :, 3].amax(1)
        # It raises the contrast where a colour is named, less where the input is noisier.
        gain = 1 + 0.5 * (named * (1 - aug_level) * (1 - 0.5 * t))[:, None, None, None]
        return torch.tanh(gain * self.mix(torch.cat([x_t, low_res], dim=1)))


def tokenizer() -> bytes:
    """A `tokenizer.json` over `WORDS`; any that the `tokenizers` library reads will do."""
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    }
    return json.dumps(definition).encode()


def describe() -> CascadeDescription:
    """What `--from torch examples.my_cascade:describe` calls."""
    return CascadeDescription(
        licence="CC0-1.0",
        provenance="set by hand",
        prompts=("a red circle", "a green circle"),
        text_encoder=TextEncoderDescription(
            network=WordEncoder().eval(),
            tokenizer=tokenizer(),
            max_tokens=16,
            context_width=WIDTH,
            provenance="a table of seven words",
        ),
        stages=(
            StageDescription(
                name="base",
                network=Circle(32).eval(),
                output_resolution=32,
                prediction="x0",
                schedule="cosine",
                sampler="ddpm",
                steps=8,
                guidance=GuidanceSpec(kind="constant", weight=1.5),
                threshold=ThresholdSpec(kind="dynamic", percentile=0.995, cap=1.5),
            ),
            StageDescription(
                name="sr64",
                network=Sharpen().eval(),
                input_resolution=32,
                output_resolution=64,
                prediction="x0",
                schedule="linear",
                sampler="ddim",
                steps=4,
                augmentation=AugmentationSpec(lowest=0.0, highest=0.5, default=0.1),
                any_size=True,
            ),
        ),
    )
