"""Stable-Diffusion-style U-Nets and decoders behind the input contract.

Times and levels in [0, 1] become the training steps that the U-Net was shown. Knows tensors; not
folders or manifests.
"""

from typing import Any

import torch
from torch import Tensor, nn

from export.adapters.if_networks import training_step


class SdNetwork(nn.Module):
    """A U-Net that denoises latents by words."""

    def __init__(self, unet: nn.Module, train_steps: int) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` with as many output channels as input channels.
            train_steps: of its schedule; time `t` is training step `t * train_steps - 1`.
        """
        super().__init__()
        self.unet = unet
        self.train_steps = train_steps

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The prediction `[B, C, H, W]`.

        Args:
            x_t: `[B, C, H, W]`, noisy latents.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings.
        """
        step = training_step(t, self.train_steps)
        found: Tensor = self.unet(x_t, step, encoder_hidden_states=context, return_dict=False)[0]
        return found


class SdUpscaler(nn.Module):
    """A U-Net that sees a picture of the latent's size beside it, and its noise as a class."""

    def __init__(self, unet: nn.Module, train_steps: int, noising_steps: int) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` of three input channels more than output channels.
            train_steps: of its schedule.
            noising_steps: of the schedule that noises the picture.
        """
        super().__init__()
        self.unet = unet
        self.train_steps = train_steps
        self.noising_steps = noising_steps

    def forward(
        self, x_t: Tensor, t: Tensor, context: Tensor, low_res: Tensor, aug_level: Tensor
    ) -> Tensor:
        """The prediction `[B, C, H, W]`.

        Args:
            x_t: `[B, C, H, W]`, noisy latents.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings.
            low_res: `[B, 3, H, W]`, the pictures at their own size.
            aug_level: `[B]`, levels of their noise in [0, 1].
        """
        found: Tensor = self.unet(
            torch.cat([x_t, low_res], dim=1),
            training_step(t, self.train_steps),
            encoder_hidden_states=context,
            class_labels=training_step(aug_level, self.noising_steps).to(torch.int64),
            return_dict=False,
        )[0]
        return found


class SdDecoder(nn.Module):
    """The second half of an `AutoencoderKL`."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, latent: Tensor) -> Tensor:
        """The picture `[B, 3, H, W]` around [-1, 1].

        Args:
            latent: `[B, C, h, w]`, as the first half made it.
        """
        found: Tensor = self.vae.decode(latent, return_dict=False)[0]
        return found
