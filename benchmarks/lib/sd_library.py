"""Pictures of diffusers' own Stable Diffusion pipelines on this project's noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionUpscalePipeline
from PIL import Image

from benchmarks.lib.library_comparison import LibraryCase, Pictures
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.types import ImageU8
from tests.support.described import SEED
from tests.support.sd_grid import LATENT, STEPS, SdCase, our_sd, sd_cases, write_sd

UPSCALE = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_upscale"


@contextmanager
def our_draws(stage: int) -> Iterator[None]:
    """Let the library draw this project's noise: the augmentation, then one a step."""
    steps = iter(range(10_000))

    def draw(shape: Any, step: int) -> torch.Tensor:
        return torch.from_numpy(normals(tuple(shape), seed=SEED, image=0, stage=stage, step=step))

    with (
        mock.patch(f"{UPSCALE}.randn_tensor", lambda shape, **_: draw(shape, AUGMENTATION)),
        mock.patch(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
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


def run(pipeline: Any, name: str, size: int, given: dict[str, Any]) -> ImageU8:
    """One pipeline's picture."""
    stage = {"base": 1, "up": 3}[name]
    channels = pipeline.vae.config.latent_channels
    start = normals((1, channels, size, size), seed=SEED, image=0, stage=stage, step=START)
    with our_draws(stage):
        made = pipeline(
            latents=torch.from_numpy(start), num_inference_steps=STEPS[name], **given
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
