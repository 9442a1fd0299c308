"""The latent upscaler behind a base pipeline, both of the true classes, on the same noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import make_schedule
from cascade.errors import UnsupportedModel
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.numerics.noise import START, normals
from cascade.request import GenerateRequest
from cascade.types import ImageU8, Latent
from export.adapters.diffusers_sd import describe_sd
from export.adapters.latent_upscaler import read_schedule
from export.description import StageDescription
from stages.evaluation.metrics import psnr_db

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")

import torch
from diffusers import EulerDiscreteScheduler

from tests.support import tiny_sd
from tests.support.described_latents import stages_over_torch
from tests.support.tiny_sd import Pipelines, saved_pipelines

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers hands tensors to numpy in a way that numpy 2 warns of."""

PROMPT = "A red apple, red cat"
SEED = 11
STEPS = {"base": 4, "latent16": 5}
SHAPES = {"base": (1, 4, 8, 8), "latent16": (1, 4, 16, 16)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """Latents of 8x8 and of 8x8 -> 16x16, saved as they are published: one folder each."""
    root = tmp_path_factory.mktemp("x2")
    base = tiny_sd.base_pipeline(root / "words")
    upscaler = tiny_sd.latent_upscaler_pipeline(root / "words")
    return saved_pipelines(root, base, upscaler)


@pytest.fixture
def folders(saved: Pipelines, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two folders, to break."""
    return saved.copied(tmp_path)


def request() -> GenerateRequest:
    """Few steps, and the default guidance of 7.5 and 9."""
    options = {name: DiffusionOptions(steps=steps) for name, steps in STEPS.items()}
    return GenerateRequest(prompt=PROMPT, seed=SEED, options=options)


def drawn(name: str) -> torch.Tensor:
    """The product's noise of a stage's start."""
    stage = list(SHAPES).index(name) + 1
    return torch.from_numpy(normals(SHAPES[name], seed=SEED, image=0, stage=stage, step=START))


def reference(pipelines: Pipelines) -> tuple[Latent, ImageU8]:
    """The larger latent and its picture, of diffusers' own pipelines.

    Contexts cross from one component to the next in half precision, as ours do: before the text
    encoder's last norm, which the first pipeline applies and the upscaler does not.
    """
    base, upscaler = pipelines.base, pipelines.upscaler
    with torch.no_grad():
        text, empty, pooled, no_pooled = upscaler.encode_prompt(PROMPT, "cpu", True)  # noqa: FBT003
        text, empty = (e.half().float() for e in (text, empty))
        encoder = base.text_encoder
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        small = base(
            prompt_embeds=norm(text), negative_prompt_embeds=norm(empty), latents=drawn("base"),
            num_inference_steps=STEPS["base"], output_type="latent",
        ).images  # fmt: skip
        large = upscaler(
            prompt_embeds=text, negative_prompt_embeds=empty, pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=no_pooled, image=small, latents=drawn("latent16"),
            num_inference_steps=STEPS["latent16"], output_type="latent",
        ).images  # fmt: skip
        decoded = upscaler.vae.decode(large / upscaler.vae.config.scaling_factor).sample
        picture = upscaler.image_processor.postprocess(decoded, "pil")[0]
    return large[0].numpy(), np.asarray(picture)


def test_both_pipelines_and_the_described_cascade_make_the_same_latent(saved: Pipelines) -> None:
    """A latent of words, one of twice its size, and its picture: no picture lies between."""
    description = describe_sd(saved.folders[0], saved.folders[1:])
    assert [stage.name for stage in description.stages] == ["base", "latent16", "decode"]
    found = {
        event.stage: event.handoff
        for event in generate(stages_over_torch(description), request())
        if isinstance(event, StageFinished)
    }
    latent, picture = reference(saved)
    ours, shown = found["latent16"].tensor, found["decode"].image
    assert ours is not None
    assert shown is not None
    assert np.abs(ours - latent).max() < 1e-3 * latent.std()
    assert picture.std() > 5
    assert psnr_db(shown, picture) >= 60


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_other_spacings_are_the_pipeline_s(
    saved: Pipelines, folders: tuple[Path, Path], spacing: str
) -> None:
    """One starts with all of the power, the other with that of the noise."""
    changed = EulerDiscreteScheduler.from_config(
        saved.upscaler.scheduler.config, timestep_spacing=spacing
    )
    changed.save_pretrained(folders[1] / "scheduler")
    pipeline = type(saved.upscaler)(**{**saved.upscaler.components, "scheduler": changed})
    pipeline.set_progress_bar_config(disable=True)
    _, picture = reference(Pipelines(saved.base, pipeline, folders))
    stages = stages_over_torch(describe_sd(folders[0], folders[1:]))
    *_, last = generate(stages, request())
    assert isinstance(last, StageFinished)
    assert last.handoff.image is not None
    assert psnr_db(last.handoff.image, picture) >= 60


SCHEDULER, UNET = "scheduler/scheduler_config.json", "unet/config.json"
REFUSED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
    ("model_index.json", {"unet": ["diffusers", "UNet2DModel"]}),
    ("model_index.json", {"vae": ["diffusers", "AutoencoderTiny"]}),
    (UNET, {"in_channels": 4}),
    (UNET, {"out_channels": 4}),
    (UNET, {"class_embed_type": "timestep"}),
    (UNET, {"num_class_embeds": 10}),
    ("vae/config.json", {"shift_factor": 0.1}),
    (SCHEDULER, {"_class_name": "DDIMScheduler"}),
    (SCHEDULER, {"prediction_type": "epsilon"}),
    (SCHEDULER, {"use_karras_sigmas": True}),
    (SCHEDULER, {"interpolation_type": "log_linear"}),
    (SCHEDULER, {"final_sigmas_type": "sigma_min"}),
    (SCHEDULER, {"rescale_betas_zero_snr": True}),
    (SCHEDULER, {"sigma_max": 10.0}),
    (SCHEDULER, {"s_churn": 1.0}),
)


@pytest.mark.parametrize(("file", "changes"), REFUSED, ids=[f"{next(iter(c))}-{n}" for n, (_, c) in
                                                           enumerate(REFUSED)])  # fmt: skip
def test_what_no_bundle_can_say_is_refused_by_file_and_field(
    folders: tuple[Path, Path], file: str, changes: dict[str, Any]
) -> None:
    """Before anything is exported; the field is the one that was changed."""
    path = folders[1] / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UnsupportedModel) as refused:
        describe_sd(folders[0], folders[1:])
    assert refused.value.field == f"{path}:{next(iter(changes))}"


def test_words_of_another_width_are_refused(folders: tuple[Path, Path]) -> None:
    """The network adds pooled text and the noise level to its time; without a place for both."""
    unet = tiny_sd.latent_unet(pooled=8)
    unet.save_pretrained(folders[1] / "unet")
    with pytest.raises(UnsupportedModel, match="time_cond_proj_dim is 136; supported: 144"):
        describe_sd(folders[0], folders[1:])


def test_it_stands_before_upscalers_of_pictures(saved: Pipelines, tmp_path: Path) -> None:
    """Whose own latents are scaled otherwise; with one behind it there are five stages."""
    x4 = tmp_path / "x4"
    tiny_sd.upscaler_pipeline(tmp_path / "words").save_pretrained(x4)
    base, x2 = saved.folders
    names = [stage.name for stage in describe_sd(base, (x2, x4)).stages]
    assert names == ["base", "latent16", "decode", "up128", "decode128"]
    with pytest.raises(UnsupportedModel, match="behind a"):
        describe_sd(base, (x4, x2))


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 75])
def test_runs_have_the_scheduler_s_sigmas(saved: Pipelines, steps: int) -> None:
    """Between training steps they lie in a straight line; so does what the network is told."""
    path = saved.folders[1] / SCHEDULER
    choices = read_schedule(path)
    schedule, scheduler = make_schedule(choices.schedule), saved.upscaler.scheduler
    scheduler.set_timesteps(steps)
    times = schedule.timesteps(steps)[:-1]
    found = schedule.sigma(times) / schedule.alpha(times)
    np.testing.assert_allclose(found, scheduler.sigmas[:-1].numpy(), rtol=1e-6)
    assert choices.start == "scaled"
    (stage,) = [
        stage
        for stage in describe_sd(saved.folders[0], saved.folders[1:]).stages
        if isinstance(stage, StageDescription) and stage.input_resolution
    ]
    told = stage.network.sigma_of(torch.tensor(times, dtype=torch.float32))
    np.testing.assert_allclose(told.numpy(), found, rtol=2e-5)
