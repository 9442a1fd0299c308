"""Lessons: students are named after their teachers, start from them and remember what they take."""

from pathlib import Path

import pytest
import torch

from cascade.errors import InvalidRequest
from stages.data.loader import Loader
from stages.networks.efficient_unet import EfficientUNet
from stages.training.checkpoint import load_metadata, save_checkpoint
from stages.training.recipes import guidance_recipe, steps_recipe, warm_start
from stages.training.trained_network import load_network
from stages.training.trainer import (
    Trainer,
    TrainingRecipe,
    TrainOptions,
    open_trainer,
    preset_objective,
)
from tests.support.tiny_training import FACTS, TINY_BASE, stirred, tiny_dataset


def teacher(folder: Path, **facts: float) -> Path:
    """A checkpoint of the tiny base stage with weights that are not those of a fresh network."""
    config = TINY_BASE.unet.with_guidance() if facts.get("guided") else TINY_BASE.unet
    network: EfficientUNet = stirred(config)
    save_checkpoint(folder / "base", {"ema": network.state_dict()}, {**FACTS, **facts})
    return folder / "base"


def train(folder: Path, recipe: TrainingRecipe, student: object, steps: int) -> Trainer:
    """Some steps of a recipe."""
    options = TrainOptions(folder=folder, steps=steps, cool_down=0.0, learning_rate=1e-3)
    trainer = open_trainer(student, Loader(tiny_dataset(), TINY_BASE), options, recipe)  # type: ignore[arg-type]
    for _ in trainer.run():
        pass
    return trainer


def test_a_chain_of_students(tmp_path: Path) -> None:
    """Guidance, then 8 steps, then half: each finds its teacher and takes its inputs."""
    student, recipe = guidance_recipe(TINY_BASE, teacher(tmp_path))
    assert recipe.name == "base.guided"
    train(tmp_path, recipe, student, 2)
    student, recipe = steps_recipe(TINY_BASE, tmp_path / "base.guided", to=8)
    assert recipe.name == "base.guided.8"
    train(tmp_path, recipe, student, 2)
    student, recipe = steps_recipe(TINY_BASE, tmp_path / "base.guided.8", to=None)
    assert recipe.name == "base.guided.4"
    train(tmp_path, recipe, student, 2)
    facts = load_metadata(tmp_path / "base.guided.4")
    assert (facts["guided"], facts["sampling_steps"], facts["teacher"]) == (1, 4, "base.guided.8")
    network = load_network(TINY_BASE, tmp_path / "base.guided.4")
    assert network.config.guided


def test_a_student_starts_from_its_teacher(tmp_path: Path) -> None:
    """Before the first step its weights are the teacher's."""
    folder = teacher(tmp_path)
    student, recipe = steps_recipe(TINY_BASE, folder, to=4)
    trainer = train(tmp_path, recipe, student, 0)
    for name, tensor in load_network(TINY_BASE, folder).state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], tensor), name
    assert (tmp_path / "base.4" / "checkpoint.json").exists()


def test_a_head_start_is_training_from_other_weights(tmp_path: Path) -> None:
    """The averaged weights of the checkpoint, the objective of pictures, the stage's own folder."""
    folder = teacher(tmp_path / "old")
    recipe = warm_start(TINY_BASE, folder)
    trainer = train(tmp_path, recipe, TINY_BASE, 0)
    for name, tensor in load_network(TINY_BASE, folder).state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], tensor), name
    assert trainer.objective == preset_objective(TINY_BASE)
    assert trainer.checkpoint == tmp_path / "base"


def test_a_lesson_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Four steps equal two, a checkpoint, a new process and two more, to the bit."""
    (tmp_path / "one").mkdir()
    folder = teacher(tmp_path)
    student, recipe = guidance_recipe(TINY_BASE, folder)
    straight = train(tmp_path / "one", recipe, student, 4)
    train(tmp_path, recipe, student, 2)
    student, recipe = guidance_recipe(TINY_BASE, folder)
    resumed = train(tmp_path, recipe, student, 4)
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_guidance_is_distilled_once(tmp_path: Path) -> None:
    """A student of guidance cannot be its teacher again."""
    with pytest.raises(InvalidRequest, match="distill its steps instead"):
        guidance_recipe(TINY_BASE, teacher(tmp_path, guided=1.0))


@pytest.mark.parametrize(("known", "to"), [(8, 8), (8, 2), (8, 16), (1, None), (0, None), (0, 0)])
def test_only_halvings(tmp_path: Path, known: int, to: int | None) -> None:
    """A teacher of N steps teaches N/2; the error says which halvings to make."""
    with pytest.raises(InvalidRequest, match="distill in halvings"):
        steps_recipe(TINY_BASE, teacher(tmp_path, sampling_steps=float(known)), to=to)
