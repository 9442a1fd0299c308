"""Plain regression: a super-resolution network asked for the picture itself, once, without noise.

The baseline of the diffusion stages: the same network, of the same size and from the same weights,
trained with the squared error that PSNR is made of. Its pictures are averages over all that could
have been there: hard to beat in decibels, and soft. Knows networks and batches; not checkpoints.

References:
    Saharia et al. 2021 (arXiv 2104.07636), section 4.1: the regression baseline of SR3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import upsample
from cascade.types import ContextF16, ImageU8
from stages.data.training_batch import TrainingBatch
from stages.networks.efficient_unet import EfficientUNet
from stages.training.objective import Objective, scales


@dataclass(frozen=True, kw_only=True, slots=True)
class RegressionObjective:
    """Squared error of the one estimate, in the units of the diffusion loss: 1 is enlargement."""

    objective: Objective
    """How the stage is trained: its schedule and its `residual_std`."""

    def loss(self, model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """Mean squared error of the picture per sample over `residual_std` squared, `[B]`."""
        del generator  # nothing is drawn
        if batch.low_res is None:
            raise ValueError("plain regression needs a low-resolution picture: it is for SR stages")
        found = estimate(model, self.objective, batch.low_res, batch.context, batch.context_mask)
        error = (found - batch.x0).square().mean(dim=(1, 2, 3))
        return error / self.objective.residual_std**2


def estimate(
    model: nn.Module, objective: Objective, low_res: Tensor, context: Tensor, mask: Tensor
) -> Tensor:
    """The clean pictures in one evaluation, `[B, 3, H, W]`.

    The network is asked at time 1, where a sample says nothing of the picture, with the enlarged
    picture in the sample's place: no noise enters.
    """
    # The same network and inputs as in diffusion, so that its weights can be a start.
    last = torch.ones(len(low_res), device=low_res.device)
    alpha, sigma = scales(objective.schedule, last)
    x_t = alpha * low_res
    v = model(
        x_t=x_t,
        t=last,
        context=context,
        context_mask=mask,
        low_res=low_res,
        aug_level=torch.zeros_like(last),
    )
    return alpha * x_t - sigma * v.float()


@torch.no_grad()
def regressed(
    network: EfficientUNet, objective: Objective, low: ImageU8, context: ContextF16, factor: int
) -> ImageU8:
    """A picture `factor` times larger, `[H, W, 3]` uint8.

    Args:
        network: trained with `RegressionObjective`.
        objective: of its stage.
        low: the smaller picture.
        context: `[tokens, width]`.
        factor: 2 or 4.
    """
    wide = torch.from_numpy(upsample(to_network(low), factor))
    text = torch.from_numpy(context[None].astype("float32"))
    found = estimate(network, objective, wide, text, torch.ones(text.shape[:2]))
    return from_network(found.numpy())
