"""Training one stage: steps, moving average, checkpoints, progress.

A run ends after so many minutes or steps, writes a checkpoint every few minutes, and goes on from
the last one exactly where it stood: weights, optimizer and random state. Knows no serving and no
export.

References:
    Saharia et al. 2022 (arXiv 2205.11487), appendix F: every stage trained on its own.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from cascade.errors import InvalidRequest, StageError
from stages.reference import StagePreset
from stages.training.checkpoint import has_checkpoint, load_metadata, load_part, save_checkpoint
from stages.training.muon import Muon
from stages.training.objective import Objective

Network = TypeVar("Network", bound=nn.Module)
Network_co = TypeVar("Network_co", bound=nn.Module, covariant=True)
OptimizerName = Literal["muon", "adamw", "adafactor"]
WARM_UP_STEPS = 100
EMA_DECAY = 0.999
CLIP_NORM = 1.0
KEPT_AT = ".at."
"""Between a stage and the samples it had seen, in the names of folders kept for good."""
FINAL_SHARE = 0.05
"""The learning rate falls to this share of itself during the cool-down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """One run of training."""

    folder: Path
    """Where checkpoints live; one folder per stage is made inside."""
    minutes: float = 60.0
    steps: int | None = None
    """Stop after so many steps in all, whichever comes first."""
    half_steps: int = 0
    """Base stage only: the first steps see pictures of half the resolution, four times cheaper."""
    cool_down: float = 0.25
    """Last share of the run's minutes in which the learning rate falls."""
    checkpoint_minutes: float = 5.0
    keep_minutes: float = 0.0
    """How often the averaged weights are kept for good, in `STAGE.at.SAMPLES`; 0 for never."""
    optimizer: OptimizerName = "muon"
    learning_rate: float | None = None
    """None takes the preset's."""
    batch: int | None = None
    """Samples per step; None takes the preset's."""
    device: str = "cpu"
    bf16: bool = False
    """Mixed precision; pays only on CPUs with native bfloat16 and on GPUs."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """One report of a run."""

    step: int
    samples: int
    minutes: float
    loss: float
    samples_per_s: float


class AnyPreset(Protocol[Network_co]):
    """A stage of any family, as far as training asks about it."""

    @property
    def name(self) -> str:
        """Of the stage and of its checkpoint."""
        ...

    @property
    def batch(self) -> int:
        """Samples per step."""
        ...

    @property
    def learning_rate(self) -> float:
        """Of the optimizer."""
        ...

    @property
    def low_resolution(self) -> int | None:
        """Of the picture that the stage starts from, if it does."""
        ...

    def network(self) -> Network_co:
        """The network with random weights."""
        ...


class AnyBatch(Protocol):
    """Samples as tensors, of a kind that the objective knows."""

    def on(self, device: torch.device) -> "AnyBatch":
        """The batch on the training device."""
        ...


class AnyLoader(Protocol):
    """Where batches come from."""

    @property
    def pictures(self) -> Sequence[Any]:
        """What they are drawn from."""
        ...

    def batch(self, count: int, generator: torch.Generator, *, shrink: int = 1) -> AnyBatch:
        """`count` random samples; `shrink` asks for pictures so many times smaller."""
        ...


class AnyObjective(Protocol):
    """What a network is asked and how its answer is judged."""

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """The loss per sample, `[B]`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecipe:
    """Training that starts from other weights, with another objective: distillation."""

    name: str
    """Folder of its checkpoint, beside those of the stages."""
    objective: AnyObjective
    start: Mapping[str, Tensor]
    """Weights to begin with; all of the network's."""
    metadata: Mapping[str, str | float]
    """Kept with the checkpoint, for whoever goes on from it."""
    after_step: Callable[[nn.Module], None] | None = None
    """What is done to the weights after every step: bounds that they have to keep."""


def preset_objective(preset: StagePreset) -> Objective:
    """How a stage is trained on pictures."""
    return Objective(
        schedule_kind=preset.schedule,
        aug_range=preset.aug_range,
        residual_std=preset.unet.residual_std,
    )


def stated_objective(preset: AnyPreset[nn.Module]) -> AnyObjective:
    """The objective of a stage that no recipe speaks for."""
    if not isinstance(preset, StagePreset):
        raise TypeError(f"{preset.name}: only diffusion stages are trained without a recipe")
    return preset_objective(preset)


class Trainer(Generic[Network]):
    """The state of one stage's training and its loop; `open_trainer` goes on from a file."""

    def __init__(
        self,
        preset: AnyPreset[Network],
        loader: AnyLoader,
        options: TrainOptions,
        recipe: TrainingRecipe | None = None,
    ) -> None:
        """A trainer before its first step; nothing is read.

        Args:
            preset: the stage.
            loader: its batches.
            options: of the run.
            recipe: what to learn and where to start; None learns from pictures, from nothing, as a
                diffusion stage does.
        """
        self.preset = preset
        self.loader = loader
        self.options = options
        self.device = torch.device(options.device)
        # Channels last: on the CPUs measured, bfloat16 convolutions train twice as fast in it.
        self.model = initial_network(preset, options.seed).to(self.device)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe is not None:
            self.model.load_state_dict(recipe.start)
        self.ema = preset.network().to(self.device).requires_grad_(requires_grad=False)
        self.ema.load_state_dict(self.model.state_dict())
        self.rate = options.learning_rate or preset.learning_rate
        self.batch = options.batch or preset.batch
        self.optimizer = make_optimizer(self.model, options, self.rate)
        self.objective = stated_objective(preset) if recipe is None else recipe.objective
        self.after_step = None if recipe is None else recipe.after_step
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step = 0
        self.samples = 0
        self.minutes = 0.0
        self.loss = 0.0
        self.metadata = {} if recipe is None else dict(recipe.metadata)
        self.checkpoint = options.folder / (preset.name if recipe is None else recipe.name)

    def resume(self) -> None:
        """Take up the last checkpoint.

        Raises:
            InvalidRequest: it holds no state to go on from, or another optimizer's.
        """
        metadata = load_metadata(self.checkpoint)
        if "state" not in metadata["pieces"]:
            raise InvalidRequest(
                f"{self.checkpoint} holds weights alone, nothing to resume: begin with them by "
                f"--start {self.checkpoint}, in another --checkpoints folder",
                field="checkpoints",
            )
        if metadata["optimizer"] != self.options.optimizer:
            raise InvalidRequest(
                f"optimizer: {self.checkpoint} was trained with {metadata['optimizer']}: "
                f"go on with --optimizer {metadata['optimizer']} or choose another folder",
                field="optimizer",
            )
        self.step, self.samples = metadata["step"], metadata["samples"]
        self.minutes, self.loss = metadata["minutes"], metadata["loss"]
        self.ema.load_state_dict(load_part(self.checkpoint, "ema"))
        state = load_part(self.checkpoint, "state")
        # So that a run that was interrupted draws what it would have drawn.
        self.generator.set_state(state.pop("generator"))
        self.model.load_state_dict(
            # 6 is the length of `model.`: all parts of the state share one file.
            {name[6:]: tensor for name, tensor in state.items() if name.startswith("model.")}
        )
        kept = self.optimizer.state_dict()
        for name, tensor in state.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                kept["state"].setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict(kept)

    def snapshot(self) -> None:
        """The averaged weights as they are now, beside the checkpoint, for good."""
        folder = self.checkpoint.with_name(f"{self.checkpoint.name}{KEPT_AT}{self.samples}")
        save_checkpoint(folder, {"ema": self.ema.state_dict()}, self.all_metadata())

    def all_metadata(self) -> dict[str, Any]:
        """What is kept with the weights."""
        return {
            "stage": self.preset.name,
            "step": self.step,
            "samples": self.samples,
            "minutes": round(self.minutes, 2),
            "loss": self.loss,
            "optimizer": self.options.optimizer,
            "pictures": len(self.loader.pictures),
            **self.metadata,
        }

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            StageError: a weight is not finite; the last checkpoint stays.
        """
        for name, weight in self.model.state_dict().items():
            if not torch.isfinite(weight).all():
                raise self.diverged(f"{name} is not finite")
        state: dict[str, Tensor] = {"generator": self.generator.get_state()}
        state |= {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            for key, value in values.items():
                state[f"optimizer.{number}.{key}"] = torch.as_tensor(value)
        parts = {"ema": self.ema.state_dict(), "state": state}
        save_checkpoint(self.checkpoint, parts, self.all_metadata())

    def diverged(self, what: str) -> StageError:
        """The error of a run that cannot go on."""
        return StageError(
            f"{self.checkpoint.name}: {what} at step {self.step}; the last checkpoint is kept: go "
            f"on from it with a smaller --learning-rate than {self.rate:g}"
        )

    def run(self) -> Iterator[TrainingProgress]:
        """Train until the minutes or the steps are over; yields a report now and then.

        Closing the iterator writes a checkpoint, as does its end.

        Raises:
            StageError: a loss, a gradient or a weight is not finite; nothing is written then.
        """
        try:
            yield from self._steps()
        except StageError:
            raise
        except BaseException:
            self.save()
            raise
        self.save()

    def _steps(self) -> Iterator[TrainingProgress]:
        started = time.monotonic()
        before = self.minutes
        saved = kept = reported = started
        samples = self.samples
        while self.options.steps is None or self.step < self.options.steps:
            now = time.monotonic()
            elapsed = (now - started) / 60
            if elapsed >= self.options.minutes:
                break
            self.minutes = before + elapsed
            if now - saved > 60 * self.options.checkpoint_minutes:
                self.save()
                saved = now
            if 0 < 60 * self.options.keep_minutes < now - kept:
                self.snapshot()
                kept = now
            if now - reported > 20:
                rate = (self.samples - samples) / (now - reported)
                yield TrainingProgress(self.step, self.samples, self.minutes, self.loss, rate)
                reported, samples = now, self.samples
            self.train_step(elapsed / self.options.minutes)

    def train_step(self, share: float) -> None:
        """One batch forward and back; `share` is how much of the run's minutes is over."""
        # Only a base stage: the size of a super-resolution stage is part of what it learns.
        half = self.step < self.options.half_steps and self.preset.low_resolution is None
        batch = self.loader.batch(self.batch, self.generator, shrink=2 if half else 1)
        self.set_rates(share)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bf16):
            loss = self.objective.loss(self.model, batch.on(self.device), self.generator)
        mean = loss.mean()
        self.optimizer.zero_grad(set_to_none=True)
        mean.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        # Before the update: what follows would be in every weight, and in the next checkpoint.
        if not (math.isfinite(mean.item()) and math.isfinite(norm)):
            raise self.diverged(f"the loss is {mean.item():g}, its gradient's norm {norm:g}")
        self.optimizer.step()
        if self.after_step is not None:
            self.after_step(self.model)
        self.step += 1
        self.samples += len(loss)
        # A plain mean of the first hundred steps, then a moving one over about as many.
        self.loss += (mean.item() - self.loss) * max(0.01, 1 / self.step)
        # Shorter at the begin, or the average would be of random weights for thousands of steps.
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)

    def set_rates(self, share: float) -> None:
        """Linear warm-up, then constant, then a linear cool-down at the run's end."""
        rate = self.rate * min(1.0, (self.step + 1) / WARM_UP_STEPS)
        # By the minutes of the run, not by steps: how many steps a machine makes is not known
        # beforehand.
        left = (1 - share) / self.options.cool_down if self.options.cool_down else 1.0
        rate *= max(FINAL_SHARE, min(1.0, left))
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def make_optimizer(model: nn.Module, options: TrainOptions, rate: float) -> torch.optim.Optimizer:
    """The optimizer of a training run."""
    if options.optimizer == "muon":
        dtype = torch.bfloat16 if options.bf16 else torch.float32
        return Muon(model.parameters(), lr=rate, dtype=dtype)
    if options.optimizer == "adafactor":
        return torch.optim.Adafactor(model.parameters(), lr=rate)
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)


def initial_network(preset: AnyPreset[Network], seed: int) -> Network:
    """A network with random weights that depend on the seed alone; torch's own state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return preset.network()


def open_trainer(
    preset: AnyPreset[Network],
    loader: AnyLoader,
    options: TrainOptions,
    recipe: TrainingRecipe | None = None,
) -> Trainer[Network]:
    """A trainer that goes on from its checkpoint, if there is one.

    Args:
        preset: the stage.
        loader: its batches.
        options: of the run.
        recipe: what to learn and where to start; None learns from pictures, from nothing.

    Raises:
        InvalidRequest: the checkpoint holds no state to go on from, or another optimizer's.
    """
    trainer = Trainer(preset, loader, options, recipe)
    if has_checkpoint(trainer.checkpoint):
        trainer.resume()
    return trainer


Watch = Callable[[float, int, Network], None]
"""Called now and then with the run's minutes, the step and the averaged network."""


def train(
    preset: AnyPreset[Network],
    loader: AnyLoader,
    options: TrainOptions,
    report: Callable[[str], None],
    watch: Watch[Network] | None = None,
    *,
    recipe: TrainingRecipe | None = None,
) -> Trainer[Network]:
    """Train one stage and report progress as lines of JSON."""
    trainer = open_trainer(preset, loader, options, recipe)
    for progress in trainer.run():
        if watch is not None:
            watch(progress.minutes, progress.step, trainer.ema)
        report(
            json.dumps(
                {
                    "stage": preset.name,
                    "step": progress.step,
                    "samples": progress.samples,
                    "minutes": round(progress.minutes, 1),
                    "loss": round(progress.loss, 4),
                    "samples_per_s": round(progress.samples_per_s, 1),
                }
            )
        )
    return trainer
