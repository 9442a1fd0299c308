"""A cascade with vectors beside the words: pooled text, a place, and an embedding of any kind.

    cascade export --from torch examples.my_vectors:describe --out places
    cascade inspect places
    cascade generate "a red circle" --bundle places --vector shade=1,0,0,0 place=0.3,-0.2 -o c.png

Nothing here is trained, see `examples.my_cascade`. A vector is an input `[B, width]` of a network,
under its own name. `place` has a default; `shade` stands for what an encoder of pictures or sounds
makes, and a request has to bring it; `pooled` is made of the words by the text encoder.
"""

import torch
from torch import Tensor, nn

from cascade.diffusion.spec import GuidanceSpec, ThresholdSpec
from cascade.vectors import VectorSpec
from examples.my_cascade import WIDTH, WordEncoder, tokenizer
from export.description import CascadeDescription, StageDescription, TextEncoderDescription

SIZE = 32


class PooledEncoder(nn.Module):
    """The rows of the words, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words = WordEncoder()

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Context `[B, L, WIDTH]`, and after it the vectors of the description: `[B, WIDTH]`."""
        rows = self.words(token_ids, token_mask)
        return rows, rows.sum(1) / rows[:, :, 3].sum(1).clamp(min=1)[:, None]


class PlacedCircle(nn.Module):
    """A circle where `place` says, in the colour of the pooled text, as dark as `shade` says."""

    def __init__(self) -> None:
        super().__init__()
        y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
        self.register_buffer("across", x[None])
        self.register_buffer("down", y[None])
        self.blur = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        nn.init.constant_(self.blur.weight, 1 / 9)

    def forward(  # noqa: PLR0913  the input contract
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,
        context_mask: Tensor,
        pooled: Tensor,
        place: Tensor,
        shade: Tensor,
    ) -> Tensor:
        """The clean picture that it expects, `[B, 3, H, W]`: prediction `x0`."""
        away = (self.across - place[:, 0, None, None]) ** 2
        away = away + (self.down - place[:, 1, None, None]) ** 2
        inside = torch.sigmoid((0.4 - (away + 1e-6).sqrt()) * 20)[:, None]
        named = (context[:, :, 3] * context_mask).amax(1)
        light = torch.sigmoid(4 * shade.mean(1))
        colour = (pooled[:, :3] + 1) * (0.5 * (named + light))[:, None]
        painted = inside * colour[:, :, None, None] - 1
        trust = 0.1 * (1 - t)[:, None, None, None]
        return (1 - trust) * painted + trust * self.blur(x_t)


def describe() -> CascadeDescription:
    """What `--from torch examples.my_vectors:describe` calls."""
    return CascadeDescription(
        licence="CC0-1.0",
        provenance="set by hand",
        prompts=("a red circle", "a green circle"),
        text_encoder=TextEncoderDescription(
            network=PooledEncoder().eval(),
            tokenizer=tokenizer(),
            max_tokens=16,
            context_width=WIDTH,
            vectors={"pooled": WIDTH},
            provenance="a table of seven words",
        ),
        stages=(
            StageDescription(
                name="base",
                network=PlacedCircle().eval(),
                output_resolution=SIZE,
                prediction="x0",
                steps=4,
                guidance=GuidanceSpec(kind="constant", weight=1.5),
                threshold=ThresholdSpec(kind="static"),
                vectors=(
                    VectorSpec(name="pooled", width=WIDTH, source="words", unconditional="zeros"),
                    VectorSpec(name="place", width=2, default=(0.0, 0.0)),
                    VectorSpec(name="shade", width=4, unconditional="zeros"),
                ),
            ),
        ),
    )
