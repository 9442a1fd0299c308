"""The training objective: which noisy sample to show and what to ask of the network for it.

Continuous time drawn evenly over the batch, v-prediction, classifier-free dropout of the text, a
random augmentation of the low-resolution image whose level the network is told. Knows tensors and a
schedule; not pictures on disk, optimizers or checkpoints.

References:
    Saharia et al. 2022 (arXiv 2205.11487), sections 2.2 and 2.4; Salimans and Ho 2022
    (arXiv 2202.00512), section 4, for the v target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade.diffusion.conditioning import AUGMENTATION
from cascade.diffusion.parametrization import target
from cascade.diffusion.schedule import Schedule, ScheduleKind, make_schedule
from stages.data.training_batch import TrainingBatch
from stages.networks.preconditioning import precondition


def scales(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """`alpha` and `sigma` of times `t [B]`, shaped to broadcast against `[B, 3, H, W]`."""
    # Through numpy in double precision: the product's own schedule, not a second one in torch.
    times = t.double().cpu().numpy()
    alpha, sigma = (
        torch.from_numpy(f(times)).float().to(t.device)[:, None, None, None]
        for f in (schedule.alpha, schedule.sigma)
    )
    return alpha, sigma


def even_times(count: int, generator: torch.Generator) -> Tensor:
    """`count` times in [0, 1), one in each of `count` equal parts, in random order."""
    parts = torch.randperm(count, generator=generator)
    # Stratified: the loss of a batch varies less than with independent times, and a small batch
    # sees all of them.
    return (parts + torch.rand(count, generator=generator)) / count


@dataclass(frozen=True, slots=True)
class NoisedBatch:
    """One batch as the network is asked it.

    Attributes:
        inputs: the network's inputs by name, noise added, text partly dropped.
        v: what it should answer, `[B, 3, H, W]`.
        unit: `[B]`, the size of an error of one: 1, or for super-resolution what the straight path
            leaves unknown, so that every time weighs the same. Plain v would hardly count the noisy
            end there, which few-step sampling depends on.
    """

    inputs: dict[str, Tensor]
    v: Tensor
    unit: Tensor

    def error(self, answer: Tensor, goal: Tensor) -> Tensor:
        """Mean squared distance per sample in these units, `[B]`."""
        error = functional.mse_loss(answer.float(), goal, reduction="none")
        return error.mean(dim=(1, 2, 3)) / self.unit**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """How a stage is asked: its schedule, its augmentation range, its text dropout."""

    schedule_kind: ScheduleKind
    aug_range: tuple[float, float]
    residual_std: float = 1.0
    """Super-resolution: see `UNetConfig.residual_std`."""
    text_dropout: float = 0.1

    @property
    def schedule(self) -> Schedule:
        """The schedule of that kind."""
        return make_schedule(self.schedule_kind)

    def loss(self, model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """Mean squared error of the v-prediction per sample, `[B]`; see `NoisedBatch.unit`."""
        noised = self.corrupt(batch, generator)
        return noised.error(model(**noised.inputs), noised.v)

    def corrupt(
        self, batch: TrainingBatch, generator: torch.Generator, *, times: Tensor | None = None
    ) -> NoisedBatch:
        """The batch with noise, times and augmentation drawn.

        Args:
            batch: clean pictures.
            generator: source of every random choice.
            times: `[B]`; None draws them evenly.
        """
        x0 = batch.x0
        count, device = x0.shape[0], x0.device

        def noise() -> Tensor:
            # Drawn on the CPU: the same seed gives the same batch on every device.
            return torch.randn(x0.shape, generator=generator).to(device)

        t = (even_times(count, generator) if times is None else times).to(device)
        alpha, sigma = scales(self.schedule, t)
        epsilon = noise()
        kept = (torch.rand(count, generator=generator) >= self.text_dropout).float().to(device)
        inputs = {
            "x_t": alpha * x0 + sigma * epsilon,
            "t": t,
            "context": batch.context,
            # All zeros is what the network takes for unconditional; the embeddings themselves may
            # stay.
            "context_mask": batch.context_mask * kept[:, None],
        }
        unit = torch.ones(count, device=device)
        if batch.low_res is not None:
            low, high = self.aug_range
            level = low + (high - low) * torch.rand(count, generator=generator).to(device)
            aug_alpha, aug_sigma = scales(AUGMENTATION, level)
            inputs["low_res"] = aug_alpha * batch.low_res + aug_sigma * noise()
            inputs["aug_level"] = level
            path = precondition(self.schedule_kind, self.residual_std, t, level)
            unit = path.from_network.flatten()
        return NoisedBatch(inputs, target("v", x0, epsilon, alpha, sigma), unit)
