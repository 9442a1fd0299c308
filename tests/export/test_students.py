"""Students in a bundle: their own checkpoint, their input, their steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.commands.cli import main as cascade
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest, Handoff
from export.adapters.reference_cascade import ReferenceSource, checkpoint_of
from export.adapters.reference_cases import stage_cases
from export.components.component import ExportOptions
from stages.evaluation.sampling import run_stage
from stages.reference import BASE, GUIDANCE_WEIGHTS, SAMPLING
from stages.training.checkpoint import save_checkpoint
from stages.training.trained_network import preset_of
from tests.export.conftest import export_preset
from tests.support.tiny_training import FACTS, SELF_BASE, stirred, tiny_dataset

STUDENT = {**FACTS, "guided": 1.0, "teacher": "base"}
GUIDED = replace(SELF_BASE, unet=SELF_BASE.unet.with_guidance())


def test_a_student_of_guidance_is_exported(tmp_path: Path) -> None:
    """Its weight is an input of the graph, changes the picture, and has its range in the entry."""
    folder = tmp_path / "base.guided"
    save_checkpoint(folder, {"ema": stirred(GUIDED.unet).state_dict()}, STUDENT)
    component, _ = export_preset(SELF_BASE, folder, ExportOptions())
    spec, stage = component.spec, component.exported
    assert spec.guidance.taught == GUIDANCE_WEIGHTS
    assert "guidance" in {tensor.name for tensor in spec.graph.inputs}
    assert spec.provenance["training"]["teacher"] == "base"
    context = np.ones((3, 12), np.float16)
    pictures = [
        run_stage(
            stage,  # type: ignore[arg-type]
            GenerateRequest(options={"base": DiffusionOptions(steps=2, guidance=weight)}),
            Handoff(context=context),
        )
        for weight in GUIDANCE_WEIGHTS
    ]
    assert (pictures[0] != pictures[1]).any()


def test_parity_is_measured_over_the_whole_range_of_weights() -> None:
    """Both ends are among the cases; a network that takes no weight is given none."""
    weights = [
        float(case["guidance"][0]) for case in stage_cases(GUIDED, tiny_dataset(), (0.1, 0.5, 0.9))
    ]
    assert (weights[0], weights[-1]) == GUIDANCE_WEIGHTS
    assert "guidance" not in stage_cases(SELF_BASE, tiny_dataset(), (0.5,))[0]


def test_which_checkpoint_is_exported(tmp_path: Path) -> None:
    """The stage's own unless a student is named; one of other steps than the default is refused."""
    steps = SAMPLING["base"].steps
    for name, facts in (
        ("base", {}),
        ("base.guided", {"guided": 1.0}),
        ("right", {"guided": 1.0, "sampling_steps": float(steps)}),
        ("wrong", {"guided": 1.0, "sampling_steps": float(steps + 1)}),
    ):
        save_checkpoint(tmp_path / name, {}, facts)

    def checkpoint(**networks: str) -> Path:
        data = tmp_path / "data.npz"
        source = ReferenceSource(checkpoints=tmp_path, data_file=data, networks=networks)
        return checkpoint_of(BASE, source)

    assert checkpoint().name == "base"
    assert not preset_of(BASE, checkpoint()).unet.guided
    assert preset_of(BASE, checkpoint(base="base.guided")).unet.guided
    assert checkpoint(base="right").name == "right"
    with pytest.raises(InvalidRequest, match=rf"distilled to {steps + 1} steps"):
        checkpoint(base="wrong")


@pytest.mark.parametrize("entry", ["base", "sr512=x", "base="])
def test_a_network_is_named_by_stage_and_folder(
    entry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything else is refused before anything is opened."""
    assert cascade(["export", "--networks", entry, "--out", "nowhere"]) != 0
    assert "networks: expected STAGE=FOLDER" in capsys.readouterr().err
