"""Distillation: what a student is asked so that it needs fewer evaluations than its teacher.

Two objectives of the training engine. Guidance distillation: one network that takes the guidance
weight as an input answers as its teacher's two guided evaluations do. Step distillation: one DDIM
step of the student lands where two of its teacher's do; repeated, the steps halve each time. Knows
networks, schedules and batches; not optimizers, checkpoints or files.

References:
    Meng et al. 2023 (arXiv 2210.03142), sections 3.1 and 3.2: both stages, with the weight drawn at
    random and told to the student. Their weight `w` combines `(1 + w) cond - w uncond`; ours is
    `uncond + w (cond - uncond)`, so ours is theirs plus 1.
    Salimans and Ho 2022 (arXiv 2202.00512), algorithm 2 and section 3, for the target of two steps
    and the truncated signal-to-noise weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cascade.diffusion.denoiser import Estimate
from cascade.diffusion.schedule import Schedule
from cascade.diffusion.spec import ThresholdSpec
from cascade.diffusion.thresholding import thresholded
from stages.data.training_batch import TrainingBatch
from stages.networks.efficient_unet import TIME_FEATURES, EfficientUNet
from stages.reference import GUIDANCE_WEIGHTS
from stages.training.objective import Objective, scales


def guided_start(teacher: EfficientUNet) -> dict[str, Tensor]:
    """The teacher's weights for a student that takes the weight: what it adds starts at zero.

    The student therefore begins as its teacher without guidance.
    """
    state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    if not teacher.config.guided:
        known = state["time_in.weight"]
        # Behind the columns that are known, as `forward` puts the guidance behind the other levels.
        state["time_in.weight"] = torch.cat([known, known.new_zeros(len(known), TIME_FEATURES)], 1)
    return state


def draw_weights(count: int, generator: torch.Generator) -> Tensor:
    """`count` guidance weights, `[B]`."""
    low, high = GUIDANCE_WEIGHTS
    return low + (high - low) * torch.rand(count, generator=generator)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceDistillation:
    """The student's one evaluation equals the teacher's guided pair, over a range of weights."""

    teacher: nn.Module
    objective: Objective
    """How the teacher was trained: times, schedule, augmentation."""

    def loss(self, model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """Mean squared distance of the student's v to the guided v per sample, `[B]`."""
        noised = self.objective.corrupt(batch, generator)
        weight = draw_weights(len(batch.x0), generator).to(batch.x0.device)
        with torch.no_grad():
            goal = guided(self.teacher, noised.inputs, batch.context_mask, weight)
        answer = model(**noised.inputs | {"context_mask": batch.context_mask, "guidance": weight})
        return noised.error(answer, goal)


def guided(
    teacher: nn.Module, inputs: Mapping[str, Tensor], mask: Tensor, weight: Tensor
) -> Tensor:
    """`uncond + w (cond - uncond)` of a network that takes no weight, `[B, 3, H, W]`."""
    both = {name: torch.cat([value, value]) for name, value in inputs.items()}
    # One batch of twice the rows, as the product's guidance runs it.
    both["context_mask"] = torch.cat([mask, torch.zeros_like(mask)])
    conditional, unconditional = teacher(**both).float().chunk(2)
    return unconditional + weight[:, None, None, None] * (conditional - unconditional)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDistillation:
    """One step of the student equals two of the teacher.

    Attributes:
        teacher: sampled with `2 steps` steps.
        steps: of the student.
        objective: how the teacher was trained.
        guided: whether both take a guidance weight.
        threshold: of the teacher's steps, as the product's sampler applies it.
    """

    teacher: nn.Module
    steps: int
    objective: Objective
    guided: bool
    threshold: ThresholdSpec

    def loss(self, model: nn.Module, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """Truncated-SNR weighted squared error of the student's clean estimate per sample, `[B]`.

        In terms of v it is `max(alpha^2, sigma^2) |v - v_target|^2`, for
        `x_0 = alpha x_t - sigma v`: the larger of the errors of `x_0` and of epsilon.
        """
        schedule = self.objective.schedule
        grid = torch.from_numpy(schedule.timesteps(2 * self.steps)).float()
        # Even places of the teacher's grid are the student's own times: only those it is ever asked
        # at.
        first = 2 * torch.randint(self.steps, (len(batch.x0),), generator=generator)
        start, middle, end = (grid[first + k].to(batch.x0.device) for k in range(3))
        noised = self.objective.corrupt(batch, generator, times=start)
        inputs = {**noised.inputs, "context_mask": batch.context_mask}
        if self.guided:
            inputs["guidance"] = draw_weights(len(batch.x0), generator).to(batch.x0.device)
        with torch.no_grad():
            goal = self.target(schedule, inputs, (start, middle, end))
        alpha, sigma = scales(schedule, start)
        v = model(**inputs).float()
        error = alpha * inputs["x_t"] - sigma * v - goal
        # |x - x_goal|^2 = sigma^2 |v - v_goal|^2; for epsilon it is alpha^2 |v - v_goal|^2.
        # max(SNR, 1), Salimans and Ho's truncated weight: at pure noise SNR is 0 and would weigh
        # nothing.
        weight = torch.maximum(alpha**2 / sigma**2, torch.ones_like(alpha))
        return (weight * error**2).mean(dim=(1, 2, 3)) / noised.unit**2

    def target(
        self, schedule: Schedule, inputs: dict[str, Tensor], times: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """The clean image for which one step from the first to the last time is the teacher's two.

        At the end of the sampling run, where the last time is 0, the sampler returns the estimate
        itself, and so does this.

        Args:
            schedule: of the teacher.
            inputs: the teacher's by name; `x_t` is `[B, 3, H, W]` at the first time.
            times: start, middle and end of the two steps, `[B]` each.

        Returns:
            `[B, 3, H, W]` around [-1, 1].
        """
        start, middle, end = times
        z = inputs["x_t"]
        z_middle = self.step(schedule, inputs, z, start, middle)
        z_end = self.step(schedule, inputs, z_middle, middle, end)
        alpha, sigma = scales(schedule, start)
        alpha_end, sigma_end = end_scales(schedule, end)
        # Their equation for the target: the clean image from which one DDIM step reaches `z_end`.
        ratio = sigma_end / sigma
        return (z_end - ratio * z) / (alpha_end - ratio * alpha)

    def step(
        self, schedule: Schedule, inputs: dict[str, Tensor], z: Tensor, t: Tensor, s: Tensor
    ) -> Tensor:
        """The teacher's DDIM step of `z` `[B, 3, H, W]` from times `t` `[B]` to `s` `[B]`."""
        alpha, sigma = scales(schedule, t)
        alpha_s, sigma_s = end_scales(schedule, s)
        v = self.teacher(**inputs | {"x_t": z, "t": t}).float()
        x0 = alpha * z - sigma * v
        x0 = in_range(x0, self.threshold)
        return alpha_s * x0 + sigma_s * (z - alpha * x0) / sigma


def end_scales(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """`alpha` and `sigma` `[B, 1, 1, 1]` of times `[B]`; time 0 is the clean image itself."""
    alpha, sigma = scales(schedule, t)
    clean = (t == 0)[:, None, None, None]
    return torch.where(clean, 1.0, alpha), torch.where(clean, 0.0, sigma)


def in_range(x0: Tensor, spec: ThresholdSpec) -> Tensor:
    """Clean estimates as the product's sampler keeps them in range; no gradient passes.

    Args:
        x0: `[B, 3, H, W]` float32, around [-1, 1]; left alone.
        spec: thresholding of the stage.

    Returns:
        The same shape, on the same device.
    """
    estimate = Estimate(x0.detach().cpu().numpy().copy())
    times = np.zeros(len(x0), np.float32)
    kept = thresholded(lambda _x_t, _t: estimate, spec)(estimate.x0, times)
    return torch.from_numpy(kept.x0).to(x0.device)
