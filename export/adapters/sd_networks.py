"""Stable-Diffusion-style U-Nets and decoders behind the input contract.

Times and levels in [0, 1] become the training steps that the U-Net was shown. Knows tensors; not
folders or manifests.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from export.adapters.if_networks import training_step

LEVEL_FEATURES = 128
"""Numbers by which the latent upscaler is told the noise of the smaller latent."""


@dataclass(frozen=True, slots=True)
class StepOfTime:
    """Which training step a network is told for a time."""

    train_steps: int
    """Of the schedule; time `t` is training step `t * train_steps - 1`, counted from 0."""
    is_rounded: bool
    """Whether its runs lie on training steps alone."""

    def __call__(self, t: Tensor) -> Tensor:
        """The steps `[B]` float32 of times `[B]` in (0, 1]."""
        if self.is_rounded:
            return training_step(t, self.train_steps)
        return torch.clamp(t * self.train_steps - 1, min=0)


class SdNetwork(nn.Module):
    """A U-Net that denoises latents by words."""

    def __init__(self, unet: nn.Module, step_of: StepOfTime, norm: nn.Module | None = None) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` with as many output channels as input channels.
            step_of: of its schedule.
            norm: of the text encoder, where the context comes without it.
        """
        super().__init__()
        self.unet = unet
        self.step_of = step_of
        self.norm = norm or nn.Identity()

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The prediction `[B, C, H, W]`.

        Args:
            x_t: `[B, C, H, W]`, noisy latents.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings.
        """
        words = self.norm(context)
        found: Tensor = self.unet(
            x_t, self.step_of(t), encoder_hidden_states=words, return_dict=False
        )[0]
        return found


class SdUpscaler(nn.Module):
    """A U-Net that sees a picture of the latent's size beside it, and its noise as a class."""

    def __init__(
        self,
        unet: nn.Module,
        step_of: StepOfTime,
        noising_steps: int,
        norm: nn.Module | None = None,
    ) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` of three input channels more than output channels.
            step_of: of its schedule.
            noising_steps: of the schedule that noises the picture.
            norm: of the text encoder, where the context comes without it.
        """
        super().__init__()
        self.norm = norm or nn.Identity()
        self.unet = unet
        self.step_of = step_of
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
            self.step_of(t),
            encoder_hidden_states=self.norm(context),
            class_labels=training_step(aug_level, self.noising_steps).to(torch.int64),
            return_dict=False,
        )[0]
        return found


class SdLatentUpscaler(nn.Module):
    """A U-Net that sees a latent enlarged beside the noisy one, its sigma, and pooled words."""

    sigmas: Tensor
    level: Tensor
    blank: Tensor

    def __init__(self, unet: nn.Module, alpha_bar: Tensor, blank: Tensor) -> None:
        """Wrap a U-Net.

        Args:
            unet: a `UNet2DConditionModel` of twice the latent's channels and one more output.
            alpha_bar: signal power after each training step, `[T]`.
            blank: what stands for a pooled text of zeros, `[1, D]`: that of no words.
        """
        super().__init__()
        self.unet = unet
        sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()
        self.register_buffer("sigmas", torch.stack([sigmas, sigmas.roll(-1)], 1))
        level = torch.cat(
            [torch.ones(1, LEVEL_FEATURES // 2), torch.zeros(1, LEVEL_FEATURES // 2)], 1
        )
        self.register_buffer("level", level)
        self.register_buffer("blank", blank)

    def forward(
        self, x_t: Tensor, t: Tensor, context: Tensor, low_res: Tensor, pooled: Tensor
    ) -> Tensor:
        """The prediction of v, `[B, C, H, W]`.

        Args:
            x_t: `[B, C, H, W]`, noisy latents.
            t: `[B]`, times in (0, 1].
            context: `[B, L, D]`, embeddings before the text encoder's norm.
            low_res: `[B, C, H, W]`, the smaller latents, enlarged.
            pooled: `[B, D]`, embeddings of whole prompts; zeros for no words.
        """
        empty = (pooled.abs().sum(1, keepdim=True) == 0).to(pooled.dtype)
        words = pooled + empty * self.blank
        found: Tensor = self.unet(
            torch.cat([x_t, low_res], dim=1),
            self.sigma_of(t).log() * 0.25,
            encoder_hidden_states=context,
            timestep_cond=torch.cat([self.level.expand(words.shape[0], -1), words], dim=1),
            return_dict=False,
        )[0]
        return -found[:, :-1]

    def sigma_of(self, t: Tensor) -> Tensor:
        """Sigma of times, in a straight line between two training steps, `[B]`."""
        count = len(self.sigmas)
        places = (t * count - 1).clamp(0, count - 1)
        below = places.floor().clamp(max=count - 2)
        pairs = self.sigmas[below.to(torch.int64)]
        return pairs[:, 0] + (places - below) * (pairs[:, 1] - pairs[:, 0])


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
