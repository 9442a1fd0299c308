"""The class-conditional cascade as a bundle: equal to its networks, the same at every placement."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.diffusion.spec import check_choices
from cascade.diffusion.stage import DiffusionStage
from cascade.events import StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from export.adapters import refinement_cascade
from export.adapters.refinement_cascade import RefinementSource, describe_refinement
from export.description import StageDescription
from runtime_client.client import Client
from stages.evaluation import class_sampling
from stages.evaluation.class_sampling import AskedClass, ClassRun, base_pictures, refined
from stages.training.checkpoint import save_checkpoint
from tests.support.described import entry_of, one_hot, picture_of, psnr_of
from tests.support.serving import running
from tests.support.tiny_refinement import TINY_CLASSES, TINY_REFINE, stirred_refinement

NAMES = ("apple", "cat", "tree", "sun")
LEVEL = 0.25
NETWORKS = {p.name: stirred_refinement(p) for p in (TINY_CLASSES, TINY_REFINE)}
USUAL_LEVEL = 0.1
RUN = ClassRun(steps=3)
ASKED = [AskedClass(2, 5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints of untrained networks, in the place of the presets'."""
    root = tmp_path_factory.mktemp("refinement")
    facts = {"classes": ",".join(NAMES), "augmentation_highest": 0.5, "augmentation": "gaussian"}
    for preset, name in ((TINY_CLASSES, "class8"), (TINY_REFINE, "refine32.gaussian.l2")):
        save_checkpoint(root / name, {"ema": NETWORKS[preset.name].state_dict()}, facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refinement_cascade, "STEPS", RUN.steps)
        patch.setattr(refinement_cascade, "CLASS8", TINY_CLASSES)
        patch.setattr(refinement_cascade, "REFINE32", TINY_REFINE)
        patch.setattr(class_sampling, "FACTOR", 2)
        yield root


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    """Exported by the command."""
    out = folder / "out"
    given = ["--stages", "class8", "refine32", "--checkpoints", str(folder), "--out", str(out)]
    assert main(["export", *given]) == 0
    return open_bundle(out)


def evaluated(*, truncated: bool) -> dict[str, Array]:
    """Both ends `[3, H, W]` or pictures by the networks and the batched sampling of evaluations."""
    small = base_pictures(NETWORKS["class8"], ASKED, RUN, ends_at=LEVEL if truncated else 0.0)
    level = LEVEL if truncated else USUAL_LEVEL
    (found,) = refined(NETWORKS["refine32"], small, ASKED, RUN, level=level, truncated=truncated)
    return {"class8": small[0], "refine32": found}


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as started:
        yield started.address


def test_every_placement_makes_the_same_pixels(bundle: Bundle, server: str) -> None:
    """Cuts 0 to 3; and the pictures are those of the evaluation, from the networks themselves."""
    request, drawn = GenerateRequest(label=2, seed=5), []
    for cut in range(4):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            drawn.append(client.run(request).images)
    for other in drawn[1:]:
        for name, picture in drawn[0].items():
            np.testing.assert_array_equal(picture, other[name])
    assert psnr_of([(drawn[0]["refine32"], evaluated(truncated=False)["refine32"])]) >= 60


def test_upscale_refines_a_picture_of_one_s_own(
    bundle: Bundle, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cascade upscale`, without a class: the same pixels here and on a server, of any size."""
    Image.fromarray(picture_of(24)).save(tmp_path / "own.png")
    given = ["upscale", str(tmp_path / "own.png"), "--bundle", str(bundle.folder), "-q"]
    drawn = []
    for where in (("--cut", "3"), ("--cut", "0", "--server", server)):
        out = tmp_path / f"{len(where)}.png"
        assert main([*given, "--seed", "5", *where, "-o", str(out)]) == 0
        drawn.append(np.asarray(Image.open(out)))
    assert drawn[0].shape == (48, 48, 3)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    capsys.readouterr()


def test_a_truncated_stage_hands_its_noise_on(folder: Path) -> None:
    """A latent, and an upscaler that is told its level and no other: as the evaluation does it."""
    described = describe_refinement(RefinementSource(checkpoints=folder, truncated=LEVEL))
    handoff, found = Handoff(context=one_hot(2, 4)), {}
    for position, stage in enumerate(described.stages, start=1):
        assert isinstance(stage, StageDescription)
        spec, engine = entry_of(described, stage, None)
        check_choices(spec, "stage")
        opened = DiffusionStage(spec, position, engine)
        request = GenerateRequest(seed=5)
        (last,) = [e for e in opened.run(request, handoff) if isinstance(e, StageFinished)]
        handoff = last.handoff
        found[stage.name] = handoff.tensor if handoff.image is None else handoff.image
    wanted = evaluated(truncated=True)
    np.testing.assert_allclose(found["class8"], wanted["class8"], atol=1e-5)
    assert psnr_of([(found["refine32"], wanted["refine32"])]) >= 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--stages refine32 class8", "stages: expected class8 refine32"),
        ("--stages class8", "stages: expected class8 refine32"),
        ("--stages class8 refine32 --truncated 0.75", "truncated: refine32.gaussian.l2 learnt"),
        ("--stages class8 refine32 --storage int8", "storage: weights of class8 refine32"),
        ("--stages class8 refine32 --networks refine32=class8", "networks: "),
        ("--stages px8 --truncated 0.5", "truncated: it goes with --stages class8 refine32"),
        ("--truncated 0.5", "truncated: it goes with --stages class8 refine32"),
    ],
)
def test_a_wrong_line_is_refused(
    folder: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Naming the flag, before anything is written."""
    out = folder / "new"
    assert main(["export", *words.split(), "--checkpoints", str(folder), "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_the_description_names_its_classes(folder: Path) -> None:
    """By the checkpoint; guidance away from no class is possible, for a mask leaves it out."""
    described = describe_refinement(RefinementSource(checkpoints=folder))
    assert described.label_encoder is not None
    assert described.label_encoder.class_names == NAMES
    assert all(stage.uses_mask for stage in described.stages)
