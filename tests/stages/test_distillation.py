"""Distillation on Gaussian pictures, where the optimal denoiser and all its maps are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade.diffusion.denoiser import Estimate
from cascade.diffusion.samplers.ddim import ddim
from cascade.diffusion.spec import ThresholdSpec
from cascade.diffusion.thresholding import thresholded
from cascade.types import Array
from stages.data.training_batch import TrainingBatch
from stages.reference import GUIDANCE_WEIGHTS
from stages.training import distillation
from stages.training.distillation import (
    GuidanceDistillation,
    StepDistillation,
    end_scales,
    guided,
    guided_start,
)
from stages.training.objective import NoisedBatch, Objective, scales
from tests.support.tiny_training import stirred, tiny_unet, unet_inputs

MEAN, MEAN_WITHOUT_TEXT, SPREAD = 0.4, -0.2, 0.3
SHAPE = (64, 3, 2, 2)
NONE, STATIC = ThresholdSpec(kind="none"), ThresholdSpec(kind="static")
DYNAMIC = ThresholdSpec(kind="dynamic", percentile=0.9)


class Optimal(nn.Module):
    """The best v for pictures whose values are independent `N(mean, SPREAD^2)`.

    With text the mean is `MEAN`, without it `MEAN_WITHOUT_TEXT`.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, x_t: Tensor, t: Tensor, context_mask: Tensor, **_: Tensor) -> Tensor:
        """From the posterior mean `E[x_0 | x_t]`, `[B, 3, H, W]`."""
        alpha, sigma = scales(self.objective.schedule, t)
        present = context_mask.amax(dim=1)[:, None, None, None]
        mean = MEAN * present + MEAN_WITHOUT_TEXT * (1 - present)
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = mean + gain * (x_t - alpha * mean)
        return (alpha * (x_t - alpha * x0) / sigma) - sigma * x0


class Affine(nn.Module):
    """A student with one slope and one offset of v per grid time, and slopes in the weight."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.table = nn.Parameter(torch.zeros(steps + 1, 4))

    def forward(
        self, x_t: Tensor, t: Tensor, guidance: Tensor | None = None, **_: Tensor
    ) -> Tensor:
        """`(a + c w) x_t + b + d w` with the coefficients of the nearest grid time."""
        a, b, c, d = self.table[(t * self.steps).round().long()].T[:, :, None, None, None]
        w = 0.0 if guidance is None else guidance[:, None, None, None]
        return (a + c * w) * x_t + b + d * w


def objective() -> Objective:
    """The base stage's."""
    return Objective(schedule_kind="cosine", aug_range=(0.0, 0.0))


def batch(seed: int = 0, *, text: bool = True) -> TrainingBatch:
    """Pictures of that distribution."""
    source = torch.Generator().manual_seed(seed)
    x0 = MEAN + SPREAD * torch.randn(SHAPE, generator=source)
    mask = torch.ones(SHAPE[0], 1) if text else torch.zeros(SHAPE[0], 1)
    return TrainingBatch(x0, None, torch.zeros(SHAPE[0], 1, 4), mask)


def sampled(network: nn.Module, start: Array, steps: int, spec: ThresholdSpec) -> list[Array]:
    """The product's DDIM sampler over a torch network: the image after every step."""
    schedule = objective().schedule

    def estimate(x_t: Array, t: Array) -> Estimate:
        z, times = torch.from_numpy(x_t), torch.from_numpy(t)
        alpha, sigma = scales(schedule, times)
        with torch.no_grad():
            v = network(x_t=z, t=times, context_mask=torch.ones(len(z), 1))
        return Estimate((alpha * z - sigma * v).numpy())

    denoise = thresholded(estimate, spec)
    run = ddim(lambda _: denoise, start, schedule, schedule.timesteps(steps))
    return [step.x_t for step in run]


@pytest.mark.parametrize("spec", [NONE, STATIC, DYNAMIC], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("first", [0, 2, 6])
def test_the_target_is_where_two_steps_of_the_sampler_lead(spec: ThresholdSpec, first: int) -> None:
    """One DDIM step towards the target lands where the product's sampler is two steps later."""
    steps = 4
    question = StepDistillation(
        teacher=Optimal(objective()),
        steps=steps,
        objective=objective(),
        guided=False,
        threshold=spec,
    )
    schedule = objective().schedule
    start = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    path = [start, *sampled(question.teacher, start, 2 * steps, spec)]
    grid = torch.from_numpy(schedule.timesteps(2 * steps)).float()
    times = tuple(grid[first + k].expand(SHAPE[0]) for k in range(3))
    inputs = {
        "x_t": torch.from_numpy(path[first]),
        "context_mask": torch.ones(SHAPE[0], 1),
        "t": times[0],
    }
    goal = question.target(schedule, inputs, times)  # type: ignore[arg-type]  # three of them
    alpha, sigma = scales(schedule, times[0])
    alpha_end, sigma_end = end_scales(schedule, times[2])
    landed = alpha_end * goal + sigma_end * (inputs["x_t"] - alpha * goal) / sigma
    np.testing.assert_allclose(landed.numpy(), path[first + 2], atol=2e-5)


def trained(student: Affine, question: object, seconds: int = 600) -> Affine:
    """The student after so many steps of Adam with a falling rate."""
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    source = torch.Generator().manual_seed(4)
    for step in range(seconds):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / seconds)
        optimizer.zero_grad()
        question.loss(student, batch(step), source).mean().backward()  # type: ignore[attr-defined]
        optimizer.step()
    return student


def test_a_student_of_half_the_steps_reproduces_the_two_step_map() -> None:
    """Four steps of the student draw what eight steps of its teacher draw."""
    question = StepDistillation(
        teacher=Optimal(objective()), steps=4, objective=objective(), guided=False, threshold=NONE
    )
    student = trained(Affine(4), question)
    start = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    theirs = sampled(question.teacher, start, 8, NONE)[-1]
    mine = sampled(student, start, 4, NONE)[-1]
    untrained = sampled(question.teacher, start, 4, NONE)[-1]
    error = np.abs(mine - theirs).max()
    assert error < 0.02
    # The teacher itself at four steps is further off: the student has learnt something.
    assert error < 0.3 * np.abs(untrained - theirs).max()


def test_the_optimal_student_has_no_loss() -> None:
    """A student that answers with the target's v is asked nothing more."""
    question = StepDistillation(
        teacher=Optimal(objective()), steps=4, objective=objective(), guided=False, threshold=NONE
    )

    class Knowing(nn.Module):
        """Solves for the target itself."""

        def forward(self, **inputs: Tensor) -> Tensor:
            schedule = objective().schedule
            times = (inputs["t"], inputs["t"] - 1 / 8, (inputs["t"] - 1 / 4).clamp(min=0))
            goal = question.target(schedule, inputs, times)
            alpha, sigma = scales(schedule, inputs["t"])
            return (alpha * inputs["x_t"] - goal) / sigma

    loss = question.loss(Knowing(), batch(), torch.Generator().manual_seed(0))
    assert loss.shape == SHAPE[:1]
    assert loss.max() < 1e-8


def test_the_weight_is_the_larger_of_both_errors() -> None:
    """An error of one in v counts `max(alpha^2, sigma^2)`: in the clean image or in the noise."""
    question = StepDistillation(
        teacher=Optimal(objective()), steps=4, objective=objective(), guided=False, threshold=NONE
    )
    recorded: list[Tensor] = []

    class OffByOne(nn.Module):
        """The target's v plus one."""

        def forward(self, **inputs: Tensor) -> Tensor:
            schedule = objective().schedule
            times = (inputs["t"], inputs["t"] - 1 / 8, (inputs["t"] - 1 / 4).clamp(min=0))
            goal = question.target(schedule, inputs, times)
            alpha, sigma = scales(schedule, inputs["t"])
            recorded.append(torch.maximum(alpha, sigma).flatten() ** 2)
            return (alpha * inputs["x_t"] - goal) / sigma + 1

    loss = question.loss(OffByOne(), batch(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, recorded[0], atol=1e-4, rtol=1e-4)


def test_the_guided_pair_by_hand() -> None:
    """Weight 1 is the conditional answer, 0 the unconditional one, and between it is straight."""
    teacher = Optimal(objective())
    inputs = {"x_t": torch.randn(SHAPE), "t": torch.full(SHAPE[:1], 0.5)}
    mask = torch.ones(SHAPE[0], 1)
    pair = [guided(teacher, inputs, mask, torch.full(SHAPE[:1], w)) for w in (0.0, 1.0, 3.0)]
    torch.testing.assert_close(pair[1], teacher(**inputs, context_mask=mask))
    torch.testing.assert_close(pair[0], teacher(**inputs, context_mask=0 * mask))
    torch.testing.assert_close(pair[2], pair[0] + 3 * (pair[1] - pair[0]))


def test_a_student_of_guidance_answers_for_every_weight() -> None:
    """Trained at random weights, its one answer equals the guided pair at any weight in range."""

    class AtOneTime(Objective):
        """Always asks about the same time, where the student is affine without error."""

        def corrupt(
            self, batch: TrainingBatch, generator: torch.Generator, **_: Any
        ) -> NoisedBatch:
            times = torch.full((len(batch.x0),), 0.5)
            return Objective.corrupt(self, batch, generator, times=times)

    teacher = Optimal(objective())
    question = GuidanceDistillation(
        teacher=teacher, objective=AtOneTime(schedule_kind="cosine", aug_range=(0.0, 0.0))
    )
    student = trained(Affine(2), question, 1500)
    inputs = {"x_t": torch.randn(SHAPE), "t": torch.full(SHAPE[:1], 0.5)}
    for weight in (GUIDANCE_WEIGHTS[0], 2.5, GUIDANCE_WEIGHTS[1]):
        w = torch.full(SHAPE[:1], weight)
        goal = guided(teacher, inputs, torch.ones(SHAPE[0], 1), w)
        error = (student(**inputs, guidance=w) - goal).abs().max()
        assert error < 0.02


@pytest.mark.parametrize("upscales", [False, True])
def test_a_guided_student_starts_as_its_teacher(upscales: bool) -> None:  # noqa: FBT001
    """Before its first step it gives the conditional answer, whatever the weight."""
    config = tiny_unet(attention="self", upscales=upscales)
    teacher = stirred(config)
    student = type(teacher)(config.with_guidance()).eval()
    student.load_state_dict(guided_start(teacher))
    inputs = unet_inputs(config)
    for weight in (1.0, 4.0):
        answer = student(**inputs, guidance=torch.full((3,), weight))
        torch.testing.assert_close(answer, teacher(**inputs), atol=1e-5, rtol=1e-5)
    # A guided teacher hands its weights on as they are.
    assert guided_start(student).keys() == student.state_dict().keys()
    torch.testing.assert_close(
        guided_start(student)["time_in.weight"], student.state_dict()["time_in.weight"]
    )


@pytest.mark.parametrize(
    "spec",
    [NONE, STATIC, DYNAMIC, replace(DYNAMIC, cap=1.5)],
    ids=["none", "static", "dynamic", "capped"],
)
def test_the_threshold_is_the_products(spec: ThresholdSpec) -> None:
    """The teacher's estimates stay in range as the sampler's do, image by image, with its cap."""
    x0 = 2 * torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    x0[0] /= 10
    product = thresholded(lambda x, _: Estimate(x.copy()), spec)
    expected = product(x0.numpy(), np.zeros(5, np.float32)).x0
    np.testing.assert_allclose(distillation.in_range(x0, spec).numpy(), expected, atol=1e-6)
