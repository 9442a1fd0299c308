"""The U-Net of guided-diffusion behind the input contract, and a class as one-hot vector.

Times in [0, 1] become the training steps that the network was shown, its six output channels two
outputs. Knows tensors; not files or manifests.
"""

import torch
from torch import Tensor, nn

from export.adapters.if_networks import split_output, training_step


class GuidedNetwork(nn.Module):
    """A stage: from noise alone or beside a picture, with a class or without."""

    def __init__(self, unet: nn.Module, steps: tuple[int, float], *, learned: bool) -> None:
        """Wrap a U-Net.

        Args:
            unet: takes pictures, training steps and a one-hot vector.
            steps: training steps of the schedule, and what one of them counts.
            learned: whether the last three channels are the variance.
        """
        super().__init__()
        self.unet = unet
        self.train_steps, self.unit = steps
        self.learned = learned

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        low_res: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The prediction `[B, 3, H, W]`, and the variance where one was learned.

        Args:
            x_t: `[B, 3, H, W]`, noisy images.
            t: `[B]`, times in (0, 1].
            context: `[B, 1, classes]`, 1 at the class.
            low_res: `[B, 3, H, W]`, the enlarged images.
        """
        pictures = x_t if low_res is None else torch.cat([x_t, low_res], dim=1)
        chosen = None if context is None else context[:, 0]
        found = self.unet(pictures, training_step(t, self.train_steps) * self.unit, chosen)
        return split_output(found, learned_variance=self.learned)


class OneHotClasses(nn.Module):
    """The number of a class as a vector of zeros with a one: half precision holds it exactly."""

    def __init__(self, classes: int) -> None:
        """Vectors of so many numbers."""
        super().__init__()
        self.numbers: Tensor
        self.register_buffer("numbers", torch.arange(classes), persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        """`[B, 1, classes]` float32 of `[B]` int64."""
        return (label[:, None, None] == self.numbers[None, None]).float()
