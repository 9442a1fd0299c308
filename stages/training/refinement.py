"""Repeated refinement: the noise of a picture at a continuous level, told its class.

Knows tensors, a schedule's levels and an augmentation; not pictures on disk, optimizers or
checkpoints.

References:
    Saharia et al. 2021 (arXiv 2104.07636), algorithm 1: the loss is the noise's, to the power 1 or
    2; Ho et al. 2021 (arXiv 2106.15282), section 4, for the augmentation of the smaller picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade.diffusion.conditioning import upsample
from cascade.diffusion.schedule import make_schedule
from cascade.errors import InvalidRequest
from stages.data.class_batch import ClassBatch
from stages.data.class_loader import ClassLoader
from stages.refinement_presets import RefinementPreset
from stages.training.checkpoint import load_part
from stages.training.conditioning_augmentation import ConditioningAugmentation
from stages.training.noise_levels import NoiseLevels
from stages.training.trainer import TrainingRecipe, initial_network

LossKind = Literal["l1", "l2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementChoices:
    """What one training decides."""

    loss: LossKind = "l2"
    augmentation: ConditioningAugmentation = field(default_factory=ConditioningAugmentation)
    label_dropout: float = 0.1
    """Share of the samples whose class is not told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementObjective:
    """The loss of a base stage of classes, or of super-resolution by repeated refinement."""

    levels: NoiseLevels
    classes: int
    choices: RefinementChoices

    def loss(self, model: nn.Module, batch: ClassBatch, generator: torch.Generator) -> Tensor:
        """Mean distance of the noise, to the power that `choices.loss` names, per sample: `[B]`."""
        inputs, noise = self.asked(batch, generator)
        away = model(**inputs).float() - noise
        away = away.abs() if self.choices.loss == "l1" else away.square()
        return away.mean(dim=(1, 2, 3))

    def asked(
        self, batch: ClassBatch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The network's inputs by name, and the noise that it should answer, `[B, 3, H, W]`."""
        x0, count = batch.x0, len(batch.x0)
        device = x0.device
        level = self.levels.draw(count, generator).to(device)
        root = level[:, None, None, None]
        # Drawn on the CPU: the same seed gives the same batch on every device.
        noise = torch.randn(x0.shape, generator=generator).to(device)
        kept = torch.rand(count, generator=generator) >= self.choices.label_dropout
        inputs = {
            "x_t": root * x0 + (1 - root**2).sqrt() * noise,
            "noise_level": level,
            "context": functional.one_hot(batch.label, self.classes).float()[:, None],
            "context_mask": kept.float()[:, None].to(device),
        }
        if batch.small is not None:
            shown = self.choices.augmentation.apply(batch.small, generator)
            inputs["low_res"] = enlarged(shown.pictures, x0.shape[-1]).to(device)
            inputs["aug_level"] = shown.level.to(device)
        return inputs, noise


def enlarged(small: Tensor, size: int) -> Tensor:
    """Small pictures `[B, 3, h, w]` as a stage enlarges them: `[B, 3, size, size]`."""
    return torch.from_numpy(upsample(small.contiguous().numpy(), size // small.shape[-1]))


def refinement_recipe(
    preset: RefinementPreset,
    loader: ClassLoader,
    seed: int,
    choices: RefinementChoices,
    *,
    start: Path | None = None,
) -> TrainingRecipe:
    """Training on labelled pictures, from random weights.

    Args:
        preset: the stage.
        loader: of its pictures.
        seed: of the weights.
        choices: loss and augmentation, which are part of the name of an upscaler's checkpoint.
        start: checkpoint folder to begin with the averaged weights of instead.

    Raises:
        InvalidRequest: `start` holds no checkpoint, or that of another network.
    """
    kind = choices.augmentation.kind
    name = preset.name if preset.low_resolution is None else f"{preset.name}.{kind}.{choices.loss}"
    weights = initial_network(preset, seed).state_dict()
    if start is not None:
        weights = start_weights(start, weights)
    return TrainingRecipe(
        name=name,
        objective=RefinementObjective(
            levels=NoiseLevels(make_schedule(preset.schedule)),
            classes=preset.classes,
            choices=choices,
        ),
        start=weights,
        metadata={
            "family": "refinement",
            "loss_kind": choices.loss,
            "augmentation": kind,
            "augmentation_highest": choices.augmentation.highest if kind == "gaussian" else 0.0,
            "classes": ",".join(loader.names),
        },
    )


def start_weights(start: Path, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint of the same network.

    Args:
        start: folder of the checkpoint.
        fresh: weights of the network that is to be trained, by name, of any shape.

    Raises:
        InvalidRequest: there is no checkpoint, or a tensor has another name or shape.
    """
    found = load_part(start, "ema")
    shapes = [{name: t.shape for name, t in weights.items()} for weights in (found, fresh)]
    if shapes[0] != shapes[1]:
        raise InvalidRequest(
            f"start: {start} holds another network: name a checkpoint of the same stage",
            field="start",
        )
    return found
