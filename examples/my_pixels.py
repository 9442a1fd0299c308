"""A cascade of pixels by groups of one's own, complete: text encoder, an 8x8 stage, 8 -> 16.

    cascade export --from torch examples.my_pixels:describe --out dots
    cascade verify dots
    cascade generate "a red circle" --bundle dots -o dot.png

Nothing here is trained: the networks are set by hand, so that what they paint is known. They stand
for yours. What matters is the contract that their `forward` follows, written down in
`export.description.PixelStageDescription`: every number is a whole one (or a multiple of 2^-10 that
float32 holds, see `stages.networks.exact`), because a value drawn from logits is another value
wherever one bit is another.
"""

import torch
from torch import Tensor, nn

from cascade.pixels.order import checkerboard, squares
from cascade.pixels.scheme import PassScheme
from examples.my_cascade import WIDTH, WordEncoder, tokenizer
from export.description import CascadeDescription, PixelStageDescription, TextEncoderDescription

SIZE = 8
SURE = 500.0
"""A logit far above any other, in sixteenths of a nat."""
SURELY = 16
"""As `floor_16`: only the likeliest is taken, for no weight is ever quite nothing."""
NONE, WHITE_SYMBOL, BLACK_SYMBOL = 256, 7, 8
"""A channel that is not decided; symbols of 255 and of 0: `(value - guess + 8) mod 256`."""


def unused(*inputs: Tensor) -> Tensor:
    """Zeros `[B, 1, 1]` that depend on inputs: engines drop those that nothing reads.

    A network that learns looks at all of them.
    """
    rows = [value[:, None].flatten(1).float().amax(1) for value in inputs]
    return 0 * torch.stack(rows).sum(0)[:, None, None]


class Colours(nn.Module):
    """The body of the first stage: which colour each of the pixels to be made has."""

    def __init__(self) -> None:
        super().__init__()
        y, x = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij")
        self.register_buffer("inside", (x**2 + y**2 <= 9).float().flatten())

    def forward(
        self,
        canvas: Tensor,
        known: Tensor,
        pass_index: Tensor,
        targets: Tensor,
        context: Tensor,
        context_mask: Tensor,
    ) -> Tensor:
        """`[B, n, 3]`: 16 for a channel at its brightest, -16 for one at its darkest."""
        words = torch.round(context * 16) * context_mask[:, :, None]
        named = words[:, :, 3].amax(1) / 16
        colour = torch.where(words[:, :, 3:] > 0, words[:, :, :3], -16.0).amax(1)
        inside = self.get_buffer("inside")[targets] * named[:, None]
        # White all around, the colour inside.
        painted = 16 + inside[:, :, None] * (colour[:, None] - 16)
        return painted + unused(canvas, known, pass_index)


class Brightness(nn.Module):
    """The heads of the first stage: the one value that a feature says, for any channel."""

    def __init__(self) -> None:
        super().__init__()
        symbols = torch.arange(256)
        ends = (symbols == WHITE_SYMBOL).float() - (symbols == BLACK_SYMBOL).float()
        self.register_buffer("sure_low", ends * SURE / 16)
        # Both symbols have the high half 0.
        self.register_buffer("sure_high", SURE * (torch.arange(16) == 0).float())

    def forward(self, features: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both halves of a symbol, `[B, n, 16]` and `[B, n, 256]`."""
        decided = (earlier != NONE).sum(2, keepdim=True)
        bright = torch.gather(features, 2, decided)
        return self.get_buffer("sure_high") + 0 * bright, self.get_buffer("sure_low") * bright


class Nothing(nn.Module):
    """The body of the second stage, which has nothing to add to its parent."""

    def forward(
        self, canvas: Tensor, known: Tensor, pass_index: Tensor, targets: Tensor, low_res: Tensor
    ) -> Tensor:
        """`[B, n, 1]`, zeros: the pixels to be made are not known yet."""
        made = torch.gather(known.flatten(1), 1, targets)[:, :, None]
        return made + unused(canvas, pass_index, low_res)


class Copies(nn.Module):
    """The heads of the second stage: always the one candidate, the parent's pixel of the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ways", torch.tensor([-SURE, SURE]))

    def forward(
        self, features: Tensor, earlier: Tensor, match: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, n, 16]`, `[B, n, 256]` and, not to copy or to, `[B, n, 2]`."""
        blank = 0 * features + unused(earlier)
        return (
            blank.expand(-1, -1, 16),
            blank.expand(-1, -1, 256),
            self.get_buffer("ways") + 0 * match,
        )


def describe() -> CascadeDescription:
    """What `--from torch examples.my_pixels:describe` calls."""
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
            PixelStageDescription(
                name="px8",
                body=Colours().eval(),
                heads=Brightness().eval(),
                features=3,
                scheme=PassScheme(parent="none", order=checkerboard(4, 4), guess="zero"),
                floor_16=SURELY,
                output_resolution=SIZE,
            ),
            PixelStageDescription(
                name="px16",
                body=Nothing().eval(),
                heads=Copies().eval(),
                features=1,
                scheme=PassScheme(
                    parent="subsample",
                    order=squares("subsample"),
                    guess="parent",
                    parent_copies=((0, 0),),
                ),
                output_resolution=2 * SIZE,
                input_resolution=SIZE,
                uses_context=False,
                floor_16=SURELY,
            ),
        ),
    )
