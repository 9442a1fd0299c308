"""Stable-Diffusion-style pipelines in miniature: the true classes, random weights, as folders.

Block types and options are those of the published stages; only widths, depths and the vocabulary
are small. Needs diffusers and transformers.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionLatentUpscalePipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 16
"""Width of the text embeddings."""
TOKENS = 20
LATENT = 8
"""Height and width of the base latent; its picture is twice as large."""
CHANNELS = 4


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's byte pairs over letters and a few words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz,"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = ["a p", "ap p", "app l", "appl e</w>", "r e", "re d</w>", "c a", "ca t</w>"]
    pieces += [merge.replace(" ", "") for merge in merges]
    words = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *words])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": TOKENS}))
    found: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    return found


def text_encoder() -> CLIPTextModel:
    """Two layers."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=62,
        eos_token_id=63,
        pad_token_id=63,
    )
    return stirred(CLIPTextModel(config).eval(), 0.1)


def unet(*, upscales: bool) -> UNet2DConditionModel:
    """A U-Net of one level with attention to the words: it exports in half the time of two."""
    torch.manual_seed(1 + upscales)
    options: dict[str, Any] = {"num_class_embeds": 1000} if upscales else {}
    network = UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=CHANNELS + 3 * upscales,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        **options,
    )
    return settled(stirred(network.eval(), 0.02), upscales=upscales)


def latent_unet(pooled: int = WIDTH) -> UNet2DConditionModel:
    """A U-Net of the latent upscaler's blocks, that reads pooled text of a width."""
    torch.manual_seed(5)
    network = UNet2DConditionModel(
        sample_size=2 * LATENT,
        in_channels=2 * CHANNELS,
        out_channels=CHANNELS + 1,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        down_block_types=("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
        cross_attention_dim=WIDTH,
        cross_attention_norm="layer_norm",
        attention_head_dim=16,
        act_fn="gelu",
        conv_in_kernel=1,
        conv_out_kernel=1,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        time_cond_proj_dim=128 + pooled,
    )
    network = stirred(network.eval(), 0.02)
    with torch.no_grad():
        network.conv_out.weight *= 2
    return network


def settled(network: UNet2DConditionModel, *, upscales: bool) -> UNet2DConditionModel:
    """Outputs of a fixed size, 0.3, so that two runs do not part ways over their last bits."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, network.config.in_channels, LATENT, LATENT, generator=generator)
    text = torch.randn(2, 7, WIDTH, generator=generator)
    labels = torch.tensor([20, 20]) if upscales else None
    with torch.no_grad():
        found = network(images, 500, text, class_labels=labels).sample
        scale = 0.3 / found.std()
        network.conv_out.weight *= scale
        network.conv_out.bias *= scale
    return network


def autoencoder(levels: int, scaling: float) -> AutoencoderKL:
    """Pictures `2^(levels - 1)` times as large as latents."""
    torch.manual_seed(7)
    network = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=2 ** (levels - 1) * LATENT,
        scaling_factor=scaling,
    )
    return stirred(network.eval(), 0.05)


def stirred(network: Any, amount: float) -> Any:
    """The network with every parameter moved: what starts as zero or one says nothing."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return network


def scheduler(**changes: Any) -> DDIMScheduler:
    """The published schedule, as DDIM takes it."""
    published: dict[str, Any] = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**{**published, **changes})


def base_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Words to a latent of 8x8 to a picture of 16x16."""
    return StableDiffusionPipeline(
        vae=autoencoder(2, 0.18215),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder),
        unet=unet(upscales=False),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def upscaler_pipeline(folder: Path) -> StableDiffusionUpscalePipeline:
    """Words and a picture of any size to one of four times its size."""
    return StableDiffusionUpscalePipeline(
        vae=autoencoder(3, 0.08333),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder),
        unet=unet(upscales=True),
        low_res_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        scheduler=scheduler(prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
    )


def latent_upscaler_pipeline(folder: Path) -> StableDiffusionLatentUpscalePipeline:
    """Words and a latent to one of twice its size, with the schedule of the published folder."""
    return StableDiffusionLatentUpscalePipeline(
        vae=autoencoder(2, 0.18215),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder),
        unet=latent_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="original_sample",
            steps_offset=1,
        ),
    )


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Two pipelines and their folders."""

    base: Any
    upscaler: Any
    folders: tuple[Path, Path]

    def copied(self, root: Path) -> tuple[Path, Path]:
        """Copies of the two folders, to break."""
        first, second = (Path(shutil.copytree(f, root / f.name)) for f in self.folders)
        return first, second


def saved_pipelines(root: Path, base: Any, upscaler: Any) -> Pipelines:
    """Two pipelines, saved as they are published: one folder each."""
    folders = root / "SD-tiny", root / "upscaler-tiny"
    for pipeline, folder in zip((base, upscaler), folders, strict=True):
        pipeline.save_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
    return Pipelines(base, upscaler, folders)
