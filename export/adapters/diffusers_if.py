"""DeepFloyd-IF-style diffusers folders as a described cascade.

One folder for stage I with the text encoder, one for each super-resolution stage, as they are
published. Whatever the pipelines decide in their code rather than in the folder (guidance, steps,
noise level, enlarging, padding to 77 tokens) is said here in the manifest's words; the defaults are
read from the pipelines' own signatures. Knows these folders; not how a bundle is written.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cascade.diffusion.spec import AugmentationSpec, GuidanceSpec
from cascade.errors import UnsupportedModel
from export.adapters.diffusers_scheduler import SchedulerChoices, read_noising, read_scheduler
from export.adapters.if_networks import IfNetwork, IfUpscaler
from export.adapters.loaded_network import load_network
from export.adapters.local_folder import expect, model_folder, read_json
from export.adapters.offline import offline_import
from export.adapters.t5_encoder import t5_text_encoder
from export.description import CascadeDescription, StageDescription, TextEncoderDescription

BASE_PIPELINES = ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")
"""Different uses of one stage I: the folders are the same."""
UPSCALER_PIPELINES = (
    "IFSuperResolutionPipeline",
    "IFImg2ImgSuperResolutionPipeline",
    "IFInpaintingSuperResolutionPipeline",
)
ENCODERS = {"T5EncoderModel": "t5", "MT5EncoderModel": "mt5", "UMT5EncoderModel": "umt5"}
"""Classes of text encoders, and the model that each is of."""
TOKENS = 77
"""The length that `encode_prompt` pads every prompt to; it is not in the folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageParts:
    """One stage's folder, read."""

    unet: nn.Module
    size: int
    """Height and width of its pictures."""
    choices: SchedulerChoices
    steps: int
    """Of the pipeline's default run, as are the next two."""
    guidance: float
    noise_level: int
    """Super-resolution: the training step that its low-resolution image is noised to."""

    @property
    def train_steps(self) -> int:
        """Training steps of its schedule."""
        return len(self.choices.schedule.alpha_bar)


def describe_if(
    folder: Path,
    upscalers: Sequence[Path],
    *,
    text_encoder: TextEncoderDescription | None = None,
    timesteps: Mapping[str, str] | None = None,
) -> CascadeDescription:
    """A cascade from diffusers folders.

    Args:
        folder: stage I: `model_index.json`, `unet`, `scheduler`, `text_encoder`, `tokenizer`.
        upscalers: folders of super-resolution stages, the smallest first.
        text_encoder: takes the place of the folder's own.
        timesteps: stage name to the name of one of diffusers' lists, such as `smart50`.

    Raises:
        UnsupportedModel: naming the file and the field.
        MissingExtra: diffusers or transformers is not installed.
    """
    stages = [read_base(folder)]
    for upscaler in upscalers:
        stages.append(read_upscaler(upscaler, stages[-1].output_resolution))
    if text_encoder is None:
        text_encoder = read_text_encoder(folder)
    for place, stage in zip((folder, *upscalers), stages, strict=True):
        check_width(place / "unet" / "config.json", stage.network.unet, text_encoder.context_width)
    return CascadeDescription(
        stages=with_timesteps(stages, timesteps or {}),
        licence="the model's own: see where its folders come from",
        provenance=f"diffusers folders {', '.join(p.name for p in (folder, *upscalers))}",
        text_encoder=text_encoder,
    )


def check_width(path: Path, unet: Any, width: int) -> None:
    """Refuse a stage that reads embeddings of another width than the text encoder makes.

    Raises:
        UnsupportedModel: naming the field of the stage's configuration.
    """
    field = "encoder_hid_dim" if unet.config.encoder_hid_dim_type else "cross_attention_dim"
    if unet.config[field] != width:
        raise UnsupportedModel(
            f"{path}: {field} is {unet.config[field]}; supported: the text encoder's {width}",
            field=f"{path}:{field}",
        )


def read_text_encoder(folder: Path) -> TextEncoderDescription:
    """Stage I's text encoder, fed as the pipelines feed it."""
    path, index = folder / "model_index.json", read_json(folder / "model_index.json")
    expect_class(path, index, "text_encoder", tuple(ENCODERS))
    config_path = folder / "text_encoder" / "config.json"
    # The pipeline loads the class that its index names, whatever the model's own file holds.
    expect(
        config_path, read_json(config_path), "model_type", (ENCODERS[index["text_encoder"][-1]],)
    )
    expect_class(path, index, "tokenizer", ("T5Tokenizer", "T5TokenizerFast"))
    return t5_text_encoder(
        folder / "text_encoder", folder / "tokenizer", max_tokens=TOKENS, pad=True, lower=True
    )


def read_base(folder: Path) -> StageDescription:
    """Stage I."""
    parts = read_parts(folder, BASE_PIPELINES, channels=3, class_embed=None)
    learned = parts.choices.learned_variance
    return describe_stage(
        "base", IfNetwork(parts.unet, parts.train_steps, learned_variance=learned), parts
    )


def read_upscaler(folder: Path, low: int) -> StageDescription:
    """Stage II, or a later one of its kind, that starts from `low` x `low` pixels."""
    parts = read_parts(folder, UPSCALER_PIPELINES, channels=6, class_embed="timestep")
    path = folder / "unet" / "config.json"
    if parts.size % low:
        raise UnsupportedModel(
            f"{path}: sample_size is {parts.size}; supported: multiples of the {low} before",
            field=f"{path}:sample_size",
        )
    noising = read_noising(folder / "image_noising_scheduler")
    levels = len(noising.alpha_bar)
    if parts.noise_level >= levels:
        path = folder / "image_noising_scheduler" / "scheduler_config.json"
        raise UnsupportedModel(
            f"{path}: num_train_timesteps is {levels}; supported: more than the pipeline's default "
            f"noise_level of {parts.noise_level}",
            field=f"{path}:num_train_timesteps",
        )
    network = IfUpscaler(
        parts.unet,
        parts.train_steps,
        levels,
        learned_variance=parts.choices.learned_variance,
    )
    return replace(
        describe_stage(f"sr{parts.size}", network, parts),
        input_resolution=low,
        enlarge="bilinear_corners",
        # Level `s` is training step `s * levels - 1`; a clean image the network never saw.
        augmentation=AugmentationSpec(
            lowest=1 / levels,
            highest=1.0,
            default=(parts.noise_level + 1) / levels,
            schedule=noising,
        ),
    )


def describe_stage(name: str, network: nn.Module, parts: StageParts) -> StageDescription:
    """What both kinds of stages have in common."""
    choices = parts.choices
    return StageDescription(
        name=name,
        network=network.eval().requires_grad_(requires_grad=False),
        output_resolution=parts.size,
        steps=parts.steps,
        schedule=choices.schedule,
        prediction=choices.prediction,
        learned_variance=choices.learned_variance,
        sampler=choices.sampler,
        gamma=choices.gamma,
        guidance=GuidanceSpec(kind="constant", weight=parts.guidance),
        null_text="",
        threshold=choices.threshold,
        uses_mask=False,
        training={"parameters": float(sum(p.numel() for p in network.parameters()))},
    )


def read_parts(
    folder: Path, pipelines: tuple[str, ...], *, channels: int, class_embed: str | None
) -> StageParts:
    """One stage's folder, every field that matters checked.

    Args:
        folder: of one pipeline.
        pipelines: class names of folders that fit.
        channels: input channels of the U-Net.
        class_embed: how the U-Net is told the noise level.
    """
    path = model_folder(folder, "pipeline") / "model_index.json"
    index = read_json(path)
    expect(path, index, "_class_name", pipelines)
    expect_class(path, index, "unet", ("UNet2DConditionModel",))
    config_path = folder / "unet" / "config.json"
    config = read_json(config_path)
    choices = read_scheduler(folder / "scheduler")
    outputs = (6,) if choices.learned_variance else (3, 6)
    expect(config_path, config, "_class_name", ("UNet2DConditionModel",))
    expect(config_path, config, "in_channels", (channels,))
    expect(config_path, config, "out_channels", outputs)
    expect(config_path, config, "class_embed_type", (class_embed,))
    expect(config_path, config, "addition_embed_type", (None, "text"))
    expect(config_path, config, "encoder_hid_dim_type", (None, "text_proj"))
    size = read_size(config_path, config.get("sample_size"))
    kind = offline_import("diffusers").UNet2DConditionModel
    unet = load_network(kind, folder / "unet", "diffusion_pytorch_model", torch_dtype=torch.float32)
    return StageParts(
        unet=unet,
        size=size,
        choices=choices,
        steps=pipeline_default(pipelines[0], "num_inference_steps"),
        guidance=float(pipeline_default(pipelines[0], "guidance_scale")),
        noise_level=pipeline_default(pipelines[0], "noise_level") if class_embed else 0,
    )


def read_size(path: Path, given: Any) -> int:
    """Height and width of a network's pictures.

    Raises:
        UnsupportedModel: they are not the same, or no sizes.
    """
    sides = given if isinstance(given, list) and len(given) == 2 else [given, given]
    side = sides[0]
    if side != sides[1] or not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise UnsupportedModel(
            f"{path}: sample_size is {given!r}; supported: a positive whole number, or the same "
            "one twice",
            field=f"{path}:sample_size",
        )
    return side


def expect_class(path: Path, index: dict[str, Any], name: str, supported: tuple[str, ...]) -> None:
    """Check the class of one component: `[library, class]` in the index."""
    entry = index.get(name)
    found = entry[-1] if isinstance(entry, list) and entry else None
    expect(path, {name: found}, name, supported)


def pipeline_default(pipeline: str, parameter: str) -> Any:
    """The default of one argument of a pipeline's call."""
    call = getattr(offline_import("diffusers"), pipeline).__call__
    return inspect.signature(call).parameters[parameter].default


def with_timesteps(
    stages: Sequence[StageDescription], names: Mapping[str, str]
) -> tuple[StageDescription, ...]:
    """The stages with diffusers' named lists of training steps as their default runs."""
    known = [stage.name for stage in stages]
    for name in names:
        if name not in known:
            raise UnsupportedModel(
                f"--timesteps {name}: no such stage; there are {', '.join(known)}",
                field="timesteps",
            )
    described = []
    for stage in stages:
        kept = named_timesteps(names[stage.name]) if stage.name in names else ()
        described.append(replace(stage, timesteps=kept, steps=len(kept) or stage.steps))
    return tuple(described)


def named_timesteps(name: str) -> tuple[int, ...]:
    """One of diffusers' lists of training steps, the noisiest first."""
    offline_import("diffusers")
    module = import_module("diffusers.pipelines.deepfloyd_if.timesteps")
    found = {key.removesuffix("_timesteps"): v for key, v in vars(module).items() if key[0] != "_"}
    if name not in found:
        raise UnsupportedModel(
            f"--timesteps {name}: no such list; diffusers has {', '.join(sorted(found))}",
            field="timesteps",
        )
    return tuple(found[name])
