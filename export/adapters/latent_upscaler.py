"""A `StableDiffusionLatentUpscalePipeline` folder as the stage that enlarges a latent twice.

The pipeline preconditions its network by sigma as Karras et al. 2022 (arXiv 2206.00364, table 1) do
for data of deviation 1; of a process whose power stays 1 that network predicts `-v`. Knows this
folder; not the ones before it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cascade.diffusion.spec import AugmentationSpec, GuidanceSpec
from cascade.errors import UnsupportedModel
from cascade.text.stage import token_inputs
from cascade.text.tokenizer import PromptTokenizer
from cascade.vectors import VectorSpec
from export.adapters.clip_encoder import POOLED
from export.adapters.diffusers_if import expect_class, pipeline_default
from export.adapters.diffusers_scheduler import (
    EULER,
    SchedulerChoices,
    load_scheduler,
    read_euler,
)
from export.adapters.loaded_network import load_network
from export.adapters.local_folder import expect, model_folder, read_json
from export.adapters.offline import offline_import
from export.adapters.sd_networks import LEVEL_FEATURES, SdLatentUpscaler
from export.description import StageDescription, TextEncoderDescription

LATENT_UPSCALER = "StableDiffusionLatentUpscalePipeline"
WEIGHTS = "diffusion_pytorch_model"
FACTOR = 2
"""How much larger the pipeline makes a latent, along one side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentParts:
    """One folder, read."""

    unet: Any
    choices: SchedulerChoices


def read_latent_upscaler(folder: Path, channels: int) -> LatentParts:
    """The U-Net and the schedule of a folder.

    Args:
        folder: of the pipeline.
        channels: of the latents that its autoencoder decodes.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    path = model_folder(folder, "pipeline") / "model_index.json"
    index = read_json(path)
    expect(path, index, "_class_name", (LATENT_UPSCALER,))
    expect_class(path, index, "unet", ("UNet2DConditionModel",))
    expect_class(path, index, "vae", ("AutoencoderKL",))
    path = folder / "unet" / "config.json"
    config = read_json(path)
    expect(path, config, "_class_name", ("UNet2DConditionModel",))
    expect(path, config, "in_channels", (2 * channels,))
    # The last channel is a variance that the pipeline leaves out.
    expect(path, config, "out_channels", (channels + 1,))
    for field in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        expect(path, config, field, (None,))
    expect(path, config, "num_class_embeds", (None,))
    choices = read_schedule(folder / "scheduler" / "scheduler_config.json")
    kind = offline_import("diffusers").UNet2DConditionModel
    unet = load_network(kind, folder / "unet", WEIGHTS, torch_dtype=torch.float32)
    return LatentParts(unet=unet, choices=choices)


def read_schedule(path: Path) -> SchedulerChoices:
    """The schedule of an `EulerDiscreteScheduler`, and what its runs start with.

    Raises:
        UnsupportedModel: naming the field.
    """
    scheduler = load_scheduler(path, (EULER,))
    # The pipeline hands it the clean latent, whatever its network predicts.
    return read_euler(path, scheduler, ("sample", "original_sample"))


def latent_upscaler_stage(
    parts: LatentParts, words: TextEncoderDescription, low: int, folder: Path
) -> StageDescription:
    """The latent of words and of a latent of half its size.

    Args:
        parts: of the folder.
        words: the cascade's text encoder, with the pooled output.
        low: height and width of the smaller latent.
        folder: for errors.

    Raises:
        UnsupportedModel: its network reads pooled text of another width.
    """
    width = words.vectors[POOLED]
    path, found = folder / "unet" / "config.json", parts.unet.config.time_cond_proj_dim
    if found != LEVEL_FEATURES + width:
        raise UnsupportedModel(
            f"{path}: time_cond_proj_dim is {found!r}; supported: {LEVEL_FEATURES + width}, "
            f"{LEVEL_FEATURES} of the noise level and the text encoder's {width}",
            field=f"{path}:time_cond_proj_dim",
        )
    channels = parts.unet.config.out_channels - 1
    network = SdLatentUpscaler(
        parts.unet, torch.tensor(parts.choices.schedule.alpha_bar), pooled_of("", words)
    )
    weight = float(pipeline_default(LATENT_UPSCALER, "guidance_scale"))
    return StageDescription(
        name=f"latent{FACTOR * low}",
        network=network.eval().requires_grad_(requires_grad=False),
        output_resolution=FACTOR * low,
        input_resolution=low,
        latent_channels=channels,
        input_latent_channels=channels,
        enlarge="nearest",
        augmentation=AugmentationSpec(lowest=0.0, highest=0.0, default=0.0),
        uses_level=False,
        steps=pipeline_default(LATENT_UPSCALER, "num_inference_steps"),
        schedule=parts.choices.schedule,
        start=parts.choices.start,
        prediction="v",
        sampler=parts.choices.sampler,
        guidance=GuidanceSpec(kind="constant", weight=weight),
        null_text="",
        threshold=parts.choices.threshold,
        uses_mask=False,
        vectors=(VectorSpec(name=POOLED, width=width, source="words", unconditional="zeros"),),
        training={"parameters": float(sum(p.numel() for p in parts.unet.parameters()))},
    )


def pooled_of(text: str, words: TextEncoderDescription) -> torch.Tensor:
    """The pooled output `[1, width]` of a text.

    Args:
        text: any prompt.
        words: a text encoder with that output.
    """
    ids = PromptTokenizer(words.tokenizer, words.max_tokens)(text)
    inputs = {name: torch.from_numpy(a) for name, a in token_inputs(ids, words).items()}
    with torch.no_grad():
        _, pooled = words.network(**inputs)
    found: torch.Tensor = pooled
    return found
