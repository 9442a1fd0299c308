"""Training recipes: fine-tuning, distillation and the regression baseline, from a checkpoint.

Names the checkpoint folders of students (`base.guided`, `base.guided.8`, `sr256.regression`) and
reads from a teacher's what it takes and how many steps it needs. The objectives themselves are
`stages.training.distillation` and `stages.training.regression`.
"""

from dataclasses import replace
from pathlib import Path

from cascade.errors import InvalidRequest
from stages.reference import SAMPLING, StagePreset
from stages.training.checkpoint import load_metadata, load_part
from stages.training.distillation import (
    GuidanceDistillation,
    StepDistillation,
    guided_start,
)
from stages.training.regression import RegressionObjective
from stages.training.trained_network import load_network, preset_of
from stages.training.trainer import TrainingRecipe, preset_objective

MOST_STEPS = 1000
REGRESSION = "regression"
"""Suffix of a regression's checkpoint folder: `sr256.regression`."""


def warm_start(preset: StagePreset, weights: Path) -> TrainingRecipe:
    """Training on pictures as ever, from the averaged weights of a checkpoint.

    Args:
        preset: the stage.
        weights: checkpoint folder.

    Raises:
        InvalidRequest: there is no checkpoint.
    """
    return TrainingRecipe(
        name=preset.name,
        objective=preset_objective(preset),
        start=load_part(weights, "ema"),
        metadata={},
    )


def regression_recipe(preset: StagePreset, weights: Path) -> TrainingRecipe:
    """The baseline of a super-resolution stage: the same network as a plain regression.

    Args:
        preset: the stage.
        weights: checkpoint folder to begin with.

    Raises:
        InvalidRequest: the stage starts from no picture, or there is no checkpoint.
    """
    if preset.low_resolution is None:
        raise InvalidRequest(
            f"regression: {preset.name} starts from no picture: this is for sr256 and sr1024",
            field="regression",
        )
    return TrainingRecipe(
        name=f"{preset.name}.{REGRESSION}",
        objective=RegressionObjective(objective=preset_objective(preset)),
        start=load_part(weights, "ema"),
        metadata={REGRESSION: 1.0},
    )


def guidance_recipe(preset: StagePreset, teacher: Path) -> tuple[StagePreset, TrainingRecipe]:
    """One student that takes the guidance weight.

    Args:
        preset: the stage.
        teacher: checkpoint folder of a network that takes none.

    Raises:
        InvalidRequest: the teacher is such a student already, or there is no checkpoint.
    """
    if load_metadata(teacher).get("guided"):
        raise InvalidRequest(
            f"teacher: {teacher} takes a guidance weight already: distill its steps instead",
            field="teacher",
        )
    network = load_network(preset, teacher)
    student = replace(preset, unet=preset.unet.with_guidance())
    return student, TrainingRecipe(
        name=f"{teacher.name}.guided",
        objective=GuidanceDistillation(teacher=network, objective=preset_objective(preset)),
        start=guided_start(network),
        metadata={"guided": 1.0, "teacher": teacher.name},
    )


def steps_recipe(
    preset: StagePreset, teacher: Path, *, to: int | None
) -> tuple[StagePreset, TrainingRecipe]:
    """One student that takes half its teacher's steps, or `to` of a teacher that takes any number.

    Args:
        preset: the stage.
        teacher: checkpoint folder.
        to: steps of the student; None halves the teacher's.

    Raises:
        InvalidRequest: the teacher was distilled to another number than twice `to`, or has no
            number to halve, or there is no checkpoint.
    """
    metadata = load_metadata(teacher)
    known = int(metadata.get("sampling_steps", 0))
    steps = known // 2 if to is None else to
    if not 1 <= steps <= MOST_STEPS or (known and known != 2 * steps):
        has = f"takes {known} steps" if known else "takes any number of steps"
        raise InvalidRequest(
            f"to: expected half of what {teacher} takes, it {has}, got {to}: "
            "distill in halvings, for example --to 16, then --teacher NAME.16 --to 8",
            field="to",
        )
    student = preset_of(preset, teacher)
    network = load_network(preset, teacher)
    guided = bool(metadata.get("guided"))
    stem = teacher.name.removesuffix(f".{known}")
    return student, TrainingRecipe(
        name=f"{stem}.{steps}",
        objective=StepDistillation(
            teacher=network,
            steps=steps,
            objective=preset_objective(preset),
            guided=guided,
            threshold=SAMPLING[preset.name].threshold,
        ),
        start=network.state_dict(),
        metadata={
            "guided": float(guided),
            "sampling_steps": float(steps),
            "teacher": teacher.name,
        },
    )
