"""DeepFloyd-IF-style U-Nets behind the input contract.

Times and levels in [0, 1] become the training steps that the U-Net was shown, and its six output
channels become two outputs. Knows tensors; not folders or manifests.
"""

import torch
from torch import Tensor, nn

CHANNELS = 3


class IfNetwork(nn.Module):
    """A base stage."""

    def __init__(self, unet: nn.Module, train_steps: int, *, learned_variance: bool) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` with three or six output channels.
            train_steps: of its schedule; time `t` is training step `t * train_steps - 1`.
            learned_variance: whether the last three channels are the variance.
        """
        super().__init__()
        self.unet = unet
        self.train_steps = train_steps
        self.learned_variance = learned_variance

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The prediction `[B, 3, H, W]`, and the variance where one was learned.

        Args:
            x_t: `[B, 3, H, W]`, noisy images.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings.
        """
        step = training_step(t, self.train_steps)
        found = self.unet(x_t, step, encoder_hidden_states=context, return_dict=False)[0]
        return split_output(found, learned_variance=self.learned_variance)


class IfUpscaler(nn.Module):
    """A super-resolution stage: the enlarged image beside the noisy one, its level as a label."""

    def __init__(
        self, unet: nn.Module, train_steps: int, noising_steps: int, *, learned_variance: bool
    ) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` with six input channels and a `timestep` class embedding.
            train_steps: of its schedule.
            noising_steps: of the schedule that noises the low-resolution image.
            learned_variance: whether the last three channels are the variance.
        """
        super().__init__()
        self.unet = unet
        self.train_steps = train_steps
        self.noising_steps = noising_steps
        self.learned_variance = learned_variance

    def forward(
        self, x_t: Tensor, t: Tensor, context: Tensor, low_res: Tensor, aug_level: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The prediction `[B, 3, H, W]`, and the variance where one was learned.

        Args:
            x_t: `[B, 3, H, W]`, noisy images.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings.
            low_res: `[B, 3, H, W]`, the enlarged images.
            aug_level: `[B]`, levels of their noise in [0, 1].
        """
        found = self.unet(
            torch.cat([x_t, low_res], dim=1),
            training_step(t, self.train_steps),
            encoder_hidden_states=context,
            class_labels=training_step(aug_level, self.noising_steps),
            return_dict=False,
        )[0]
        return split_output(found, learned_variance=self.learned_variance)


def training_step(t: Tensor, train_steps: int) -> Tensor:
    """The training step that a time stands for, `[B]`, counted from 0."""
    return torch.clamp(torch.round(t * train_steps) - 1, min=0)


def split_output(found: Tensor, *, learned_variance: bool) -> Tensor | tuple[Tensor, Tensor]:
    """`[B, 6, H, W]` as the first three channels, or as two outputs where a variance is used."""
    if learned_variance:
        return found[:, :CHANNELS], found[:, CHANNELS:]
    return found[:, :CHANNELS]
