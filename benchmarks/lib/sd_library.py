"""Pictures of diffusers' own Stable Diffusion pipelines on this project's noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import (
    StableDiffusionLatentUpscalePipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
)
from PIL import Image

from benchmarks.lib.library_comparison import LibraryCase, Pictures
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.types import ImageU8
from tests.support.described import SEED
from tests.support.sd_grid import LATENT, STEPS, SdCase, our_sd, sd_cases, write_sd

SCHEDULERS = "diffusers.schedulers.scheduling"
UPSCALE = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_upscale"


@contextmanager
def our_draws(stage: int) -> Iterator[None]:
    """Let the library draw this project's noise: the augmentation, then one a step."""
    steps = iter(range(10_000))

    def draw(shape: Any, step: int) -> torch.Tensor:
        return torch.from_numpy(normals(tuple(shape), seed=SEED, image=0, stage=stage, step=step))

    with (
        mock.patch(f"{UPSCALE}.randn_tensor", lambda shape, **_: draw(shape, AUGMENTATION)),
        mock.patch(f"{SCHEDULERS}_ddpm.randn_tensor", lambda shape, **_: draw(shape, next(steps))),
        mock.patch(
            f"{SCHEDULERS}_euler_ancestral_discrete.randn_tensor",
            lambda shape, **_: draw(shape, next(steps)),
        ),
    ):
        yield


def loaded(kind: Any, folder: Path, files: str) -> Any:
    """A pipeline as users load it, in single precision."""
    variant = "fp16" if files == "fp16" else None
    pipeline = kind.from_pretrained(
        str(folder), torch_dtype=torch.float32, variant=variant, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def library_pictures(case: SdCase, folders: tuple[Path, ...], ours: Pictures) -> Pictures:
    """What the pipelines make of a cascade, the second of our picture before.

    Contexts cross from one component to the next in half precision, as ours do.
    """
    base = loaded(StableDiffusionPipeline, folders[0], case.files)
    if case.enlarges_latents:
        return enlarged_latents(case, base, folders[1])
    embeds = base.encode_prompt(case.prompt, "cpu", 1, do_classifier_free_guidance=True)
    text, empty = (e.detach().half().float() for e in embeds)
    given = {"prompt_embeds": text, "negative_prompt_embeds": empty, "output_type": "pil"}
    found = {"decode": run(base, "base", LATENT, given)}
    if len(folders) > 1:
        small = ours["decode"]
        upscaler = loaded(StableDiffusionUpscalePipeline, folders[1], case.files)
        image = {"image": Image.fromarray(small)}
        (name,) = set(ours) - {"decode"}
        found[name] = run(upscaler, "up", len(small), {**given, **image})
    return found


@torch.no_grad()
def enlarged_latents(case: SdCase, base: Any, folder: Path) -> Pictures:
    """The picture of the latent upscaler's latent; words cross before the encoder's last norm."""
    upscaler = loaded(StableDiffusionLatentUpscalePipeline, folder, case.files)
    words = upscaler.encode_prompt(case.prompt, "cpu", do_classifier_free_guidance=True)
    text, empty = (e.half().float() for e in words[:2])
    encoder = base.text_encoder
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    small = base(
        prompt_embeds=norm(text),
        negative_prompt_embeds=norm(empty),
        latents=started(base, 1, LATENT),
        num_inference_steps=STEPS["base"],
        output_type="latent",
    ).images
    made = upscaler(
        prompt_embeds=text,
        negative_prompt_embeds=empty,
        pooled_prompt_embeds=words[2],
        negative_pooled_prompt_embeds=words[3],
        image=small,
        latents=started(upscaler, 2, 2 * LATENT),
        num_inference_steps=STEPS["up"],
        output_type="pil",
    ).images[0]
    return {"decode": np.asarray(made)}


def started(pipeline: Any, stage: int, size: int) -> torch.Tensor:
    """This project's noise that a stage starts with."""
    shape = (1, pipeline.vae.config.latent_channels, size, size)
    return torch.from_numpy(normals(shape, seed=SEED, image=0, stage=stage, step=START))


def run(pipeline: Any, name: str, size: int, given: dict[str, Any]) -> ImageU8:
    """One pipeline's picture."""
    stage = {"base": 1, "up": 3}[name]
    with our_draws(stage):
        made = pipeline(
            latents=started(pipeline, stage, size), num_inference_steps=STEPS[name], **given
        ).images[0]
    return np.asarray(made)


def comparisons(root: Path) -> Iterator[LibraryCase]:
    """Every configuration of the grid, written below `root`."""
    for case in sd_cases():
        folders = write_sd(case, root)
        yield LibraryCase(
            name=case.name,
            refused=case.refused,
            ours=partial(our_sd, case, folders),
            theirs=partial(library_pictures, case, folders),
        )
