"""Stable-Diffusion-style pipelines of the true classes and their cascades, on the same noise."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import UnsupportedModel
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.request import GenerateRequest
from cascade.stage import Stage
from cascade.types import ImageU8
from export.adapters.command import ForeignSource, describe
from export.description import CascadeDescription
from runtime_client.client import Client
from stages.evaluation.metrics import psnr_db

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)
from PIL import Image

from tests.support import sd_choices, sd_grid, tiny_sd
from tests.support.described_latents import stages_over_torch
from tests.support.known_answers import known_answers, thinned
from tests.support.serving import running
from tests.support.tiny_sd import Pipelines, saved_pipelines

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers hands tensors to numpy in a way that numpy 2 warns of."""

PROMPT = "A red apple, red cat"
SEED = 11
STEPS = {"base": 4, "up64": 3}
SHAPES = {"base": (1, 4, 8, 8), "up64": (1, 4, 16, 16)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """Pipelines of 16 and of 16 -> 64 pixels, saved as they are published: one folder each."""
    root = tmp_path_factory.mktemp("sd")
    base = tiny_sd.base_pipeline(root / "words")
    upscaler = tiny_sd.upscaler_pipeline(root / "words")
    return saved_pipelines(root, base, upscaler)


@pytest.fixture
def folders(saved: Pipelines, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two folders, to break."""
    return saved.copied(tmp_path)


def described(folders: tuple[Path, ...]) -> CascadeDescription:
    """What the adapter makes of folders."""
    return describe(
        ForeignSource(kind="diffusers-sd", where=str(folders[0]), upscalers=folders[1:])
    )


def request() -> GenerateRequest:
    """Few steps, and the default guidance."""
    options = {name: DiffusionOptions(steps=steps) for name, steps in STEPS.items()}
    return GenerateRequest(prompt=PROMPT, seed=SEED, options=options)


def pictures_of(stages: list[Stage], asked: GenerateRequest) -> dict[str, ImageU8]:
    """Every picture by its component."""
    return {
        event.stage: event.handoff.image
        for event in generate(stages, asked)
        if isinstance(event, StageFinished) and event.handoff.image is not None
    }


def drawn(name: str, step: int) -> torch.Tensor:
    """The product's noise of a stage."""
    stage = {"base": 1, "up64": 3}[name]
    shape = (1, 3, 16, 16) if step == AUGMENTATION else SHAPES[name]
    return torch.from_numpy(normals(shape, seed=SEED, image=0, stage=stage, step=step))


def reference(pipelines: tuple[Any, ...], patch: pytest.MonkeyPatch) -> dict[str, ImageU8]:
    """The pictures of diffusers' own pipelines, by the component that decodes them.

    Contexts cross from one component to the next in half precision, as ours do.
    """
    base, *upscalers = pipelines
    embeds = base.encode_prompt(PROMPT, "cpu", 1, do_classifier_free_guidance=True)
    text, empty = (e.half().float() for e in embeds)
    given = {"prompt_embeds": text, "negative_prompt_embeds": empty, "output_type": "pil"}
    small = run(base, "base", patch, **given)
    found = {"decode": np.asarray(small)}
    for upscaler in upscalers:
        large = run(upscaler, "up64", patch, image=small, **given)
        found["decode64"] = np.asarray(large)
    return found


def run(pipeline: Any, name: str, patch: pytest.MonkeyPatch, **given: Any) -> Image.Image:
    """One pipeline on the product's noise."""
    steps = iter(range(10_000))
    module = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_upscale"
    with patch.context() as local:
        local.setattr(f"{module}.randn_tensor", lambda *_, **__: drawn(name, AUGMENTATION))
        for scheduler in ("ddpm", "euler_ancestral_discrete"):
            local.setattr(
                f"diffusers.schedulers.scheduling_{scheduler}.randn_tensor",
                lambda *_, **__: drawn(name, next(steps)),
            )
        made: Image.Image = pipeline(
            latents=drawn(name, START), num_inference_steps=STEPS[name], **given
        ).images[0]
    return made


def check_equal(found: dict[str, ImageU8], expected: dict[str, ImageU8]) -> None:
    """At least 50 dB, of pictures that are none of one colour."""
    assert found.keys() == expected.keys()
    for name, image in found.items():
        assert expected[name].std() > 5
        assert psnr_db(image, expected[name]) >= 50, name


def test_both_pipelines_and_the_described_cascade_make_the_same_pictures(
    saved: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A latent of words, its picture, a latent of that picture at its own size, its picture."""
    description = described(saved.folders)
    assert [stage.name for stage in description.stages] == ["base", "decode", "up64", "decode64"]
    found = pictures_of(stages_over_torch(description), request())
    assert {name: image.shape for name, image in found.items()} == {
        "decode": (16, 16, 3),
        "decode64": (64, 64, 3),
    }
    check_equal(found, reference((saved.base, saved.upscaler), monkeypatch))


SOLVER = DPMSolverMultistepScheduler.from_config
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "pndm": lambda c: PNDMScheduler.from_config(c, skip_prk_steps=True, set_alpha_to_one=False),
    "ddim-v": lambda c: DDIMScheduler.from_config(c, prediction_type="v_prediction"),
    "ddpm": lambda c: DDPMScheduler.from_config(c, clip_sample=False),
    "ddpm-large": lambda c: DDPMScheduler.from_config(
        c, clip_sample=False, variance_type="fixed_large"
    ),
    "euler": EulerDiscreteScheduler.from_config,
    "euler-between": lambda c: EulerDiscreteScheduler.from_config(c, timestep_spacing="linspace"),
    "euler-trailing": lambda c: EulerDiscreteScheduler.from_config(
        c, timestep_spacing="trailing", prediction_type="v_prediction"
    ),
    "ancestral": EulerAncestralDiscreteScheduler.from_config,
    "ancestral-between": lambda c: EulerAncestralDiscreteScheduler.from_config(
        c, timestep_spacing="linspace"
    ),
    "solver": SOLVER,
    "solver-karras": lambda c: SOLVER(c, use_karras_sigmas=True),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_that_is_taken_is_the_pipeline_s(
    saved: Pipelines, folders: tuple[Path, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As users swap them in, from the folder's own configuration."""
    changed = SCHEDULERS[name](saved.base.scheduler.config)
    changed.save_pretrained(folders[0] / "scheduler")
    pipeline = type(saved.base)(
        **{**saved.base.components, "scheduler": changed}, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    found = pictures_of(stages_over_torch(described(folders[:1])), request())
    check_equal(found, reference((pipeline,), monkeypatch))


@pytest.mark.parametrize(
    ("folder", "file", "changes"), sd_choices.REFUSED, ids=[f"{f}-{next(iter(c), 'gone')}-{n}" for
                                                            n, (_, f, c) in
                                                            enumerate(sd_choices.REFUSED)],
)  # fmt: skip
def test_what_no_bundle_can_say_is_refused_by_file_and_field(
    folders: tuple[Path, Path], folder: int, file: str, changes: dict[str, Any]
) -> None:
    """Before anything is exported; the field is the one that was changed."""
    sd_grid.edit(folders[folder] / file, changes)
    with pytest.raises(UnsupportedModel) as refused:
        described(folders)
    path = folders[folder] / file
    assert refused.value.field == (f"{path}:{next(iter(changes))}" if changes else str(path))


CASES = {case.name: case for case in sd_grid.sd_cases()}
ANSWERS = known_answers("diffusers_sd")


@pytest.mark.parametrize("name", list(ANSWERS))
def test_pictures_are_the_pipelines_(name: str, tmp_path: Path) -> None:
    """Every kept configuration of `benchmarks.foreign_grid` on the same noise: 50 dB at least."""
    case = CASES[name]
    found = sd_grid.our_sd(case, sd_grid.write_sd(case, tmp_path))
    assert found.keys() == ANSWERS[name].keys()
    for stage, wanted in ANSWERS[name].items():
        assert wanted.std() > 1
        assert psnr_db(thinned(found[stage]), wanted) >= 50


def test_an_upscaler_of_other_words_is_refused(folders: tuple[Path, Path]) -> None:
    """A bundle has one text encoder; so has a cascade whose upscaler comes first none at all."""
    torch.manual_seed(99)
    other = tiny_sd.stirred(tiny_sd.text_encoder(), 0.1)
    other.save_pretrained(folders[1] / "text_encoder")
    with pytest.raises(UnsupportedModel, match="another text encoder than the first"):
        described(folders)
    with pytest.raises(
        UnsupportedModel,
        match="supported: 'StableDiffusionUpscalePipeline'",
    ):
        described(folders[::-1])


def test_a_vocabulary_and_its_merges_are_the_tokenizer_where_there_is_no_other(
    saved: Pipelines, folders: tuple[Path, Path]
) -> None:
    """As the published folders have it; a `tokenizer.json` has the same words."""
    place = folders[0] / "tokenizer"
    own = (place / "tokenizer.json").read_bytes()
    with_own = described(folders[:1]).text_encoder
    assert with_own is not None
    assert json.loads(with_own.tokenizer)["model"] == json.loads(own)["model"]
    (place / "tokenizer.json").unlink()
    words = saved.folders[0].parent / "words"
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(words / name, place / name)
    made = described(folders[:1]).text_encoder
    assert made is not None
    assert json.loads(made.tokenizer)["model"] == json.loads(own)["model"]
    (place / "merges.txt").unlink()
    with pytest.raises(UnsupportedModel, match="this file is missing, and so is"):
        described(folders[:1])


@pytest.fixture(scope="module")
def bundle(saved: Pipelines) -> Bundle:
    """Both pipelines' bundle, written by the command."""
    out = saved.folders[0].parent / "bundle"
    first, second = map(str, saved.folders)
    arguments = ["--from", "diffusers-sd", first, "--upscaler", second, "--out", str(out)]
    assert main(["export", *arguments]) == 0
    return open_bundle(out)


def test_a_bundle_makes_the_pipelines_pictures_at_every_cut(
    saved: Pipelines, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text encoder, latents and decoders each on either side: the same bytes."""
    found = []
    with running(bundle, cut=0) as server:
        for cut in range(6):
            with Client(bundle, server=server.address, cut=cut, threads=1) as client:
                found.append(dict(client.run(request()).images))
    last = found[-1]
    assert last["decode64"].shape == (64, 64, 3)
    check_equal(
        {name: last[name] for name in ("decode", "decode64")},
        reference((saved.base, saved.upscaler), monkeypatch),
    )
    for images in found[:-1]:
        for name, image in images.items():
            np.testing.assert_array_equal(image, last[name])
