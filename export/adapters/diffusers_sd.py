"""Stable-Diffusion-style diffusers folders as a described cascade of latents.

One folder of a `StableDiffusionPipeline`, and for each enlargement one of a
`StableDiffusionUpscalePipeline`, or of the latent upscaler's. What the pipelines decide in their
code (guidance, steps, noise level, padding) is said here in the manifest's words; the defaults are
read from the pipelines' own signatures. Safety checkers and watermarks are left out. Knows these
folders; not how a bundle is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cascade.diffusion.spec import AugmentationSpec, GuidanceSpec
from cascade.errors import UnsupportedModel
from export.adapters.clip_encoder import clip_norm, clip_text_encoder
from export.adapters.diffusers_if import check_width, expect_class, pipeline_default
from export.adapters.diffusers_scheduler import (
    DDIM,
    EULER,
    EULER_ANCESTRAL,
    PNDM,
    SchedulerChoices,
    read_noising,
    read_scheduler,
)
from export.adapters.latent_upscaler import (
    FACTOR,
    LATENT_UPSCALER,
    latent_upscaler_stage,
    read_latent_upscaler,
)
from export.adapters.loaded_network import load_network
from export.adapters.local_folder import expect, model_folder, read_json
from export.adapters.offline import offline_import
from export.adapters.sd_networks import SdDecoder, SdNetwork, SdUpscaler, StepOfTime
from export.description import (
    AnyStageDescription,
    AutoencoderDescription,
    CascadeDescription,
    StageDescription,
    TextEncoderDescription,
)

PIPELINE = "StableDiffusionPipeline"
UPSCALER = "StableDiffusionUpscalePipeline"
WEIGHTS = "diffusion_pytorch_model"
OLD_SIZE = 64
"""What the pipeline takes smaller latents for, in files of diffusers before 0.9."""
UPSCALER_SCALING = 0.08333
"""The pipeline sets its autoencoder to this, whatever the folder says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """The autoencoder of a folder, as far as it decodes."""

    vae: Any
    channels: int
    """Of its latents."""
    factor: int
    """Pixels that a number of a latent's plane becomes, along one side."""
    scaling: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SdParts:
    """One folder, read."""

    pipeline: str
    unet: Any
    decoder: Decoder
    choices: SchedulerChoices

    @property
    def step_of_time(self) -> StepOfTime:
        """How its network is told a time."""
        schedule = self.choices.schedule
        return StepOfTime(len(schedule.alpha_bar), is_rounded=schedule.ramp != "between")


def describe_sd(folder: Path, upscalers: Sequence[Path]) -> CascadeDescription:
    """A cascade from diffusers folders.

    Args:
        folder: of a `StableDiffusionPipeline`.
        upscalers: of `StableDiffusionUpscalePipeline`, in the order of the work; before them any of
            `StableDiffusionLatentUpscalePipeline`.

    Raises:
        UnsupportedModel: naming the file and the field.
        MissingExtra: diffusers or transformers is not installed.
    """
    latent, pictures = split_upscalers(upscalers)
    parts = read_parts(folder, PIPELINE)
    words = read_words(folder, parts.unet, pools=bool(latent))
    size, decoder = latent_size(folder, parts), parts.decoder
    # The latent upscaler reads the words before the encoder's last norm; all others apply it.
    norm = clip_norm(words.network) if latent else None
    stages: list[AnyStageDescription] = [base_stage(parts, size, norm)]
    for upscaler in latent:
        channels, decoder = decoder.channels, read_decoder(upscaler / "vae")
        check_channels(upscaler, decoder, channels)
        enlarging = read_latent_upscaler(upscaler, channels)
        check_same_words(read_words(upscaler, enlarging.unet, pools=True), words, upscaler)
        stages.append(latent_upscaler_stage(enlarging, words, size, upscaler))
        size *= FACTOR
    stages.append(decoder_stage("decode", decoder, size, passes_words=bool(pictures)))
    for number, upscaler in enumerate(pictures, start=1):
        low = size * decoder.factor
        parts = read_parts(upscaler, UPSCALER)
        decoder = parts.decoder
        check_same_words(read_words(upscaler, parts.unet, pools=bool(latent)), words, upscaler)
        stages.append(upscaler_stage(parts, low, upscaler, norm))
        large = low * decoder.factor
        goes_on = number < len(pictures)
        stages.append(decoder_stage(f"decode{large}", decoder, low, passes_words=goes_on))
        size = low
    return CascadeDescription(
        stages=tuple(stages),
        licence="the model's own: see where its folders come from",
        provenance=f"diffusers folders {', '.join(p.name for p in (folder, *upscalers))}",
        text_encoder=words,
    )


def split_upscalers(upscalers: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that enlarge latents, which come first, and those that enlarge pictures."""
    latent: list[Path] = []
    for number, folder in enumerate(upscalers):
        path = model_folder(folder, "pipeline") / "model_index.json"
        kind = expect(path, read_json(path), "_class_name", (UPSCALER, LATENT_UPSCALER))
        if kind != LATENT_UPSCALER:
            continue
        if len(latent) < number:
            raise UnsupportedModel(
                f"{path}: _class_name is {kind!r} behind a {UPSCALER}, whose latents are scaled "
                f"otherwise; supported: {LATENT_UPSCALER} before it",
                field=f"{path}:_class_name",
            )
        latent.append(folder)
    return latent, list(upscalers[len(latent) :])


def check_channels(folder: Path, decoder: Decoder, channels: int) -> None:
    """Refuse an autoencoder of other latents than are enlarged.

    Raises:
        UnsupportedModel: naming the field of its configuration.
    """
    path = folder / "vae" / "config.json"
    if decoder.channels != channels:
        raise UnsupportedModel(
            f"{path}: latent_channels is {decoder.channels}; supported: the {channels} of the "
            "folder before",
            field=f"{path}:latent_channels",
        )


def read_parts(folder: Path, pipeline: str) -> SdParts:
    """One folder, every field that matters checked.

    Args:
        folder: of one pipeline.
        pipeline: its class.
    """
    path = model_folder(folder, "pipeline") / "model_index.json"
    index = read_json(path)
    expect(path, index, "_class_name", (pipeline,))
    expect_class(path, index, "unet", ("UNet2DConditionModel",))
    expect_class(path, index, "vae", ("AutoencoderKL",))
    decoder = read_decoder(folder / "vae")
    if pipeline == UPSCALER:
        check_upscaler_decoder(folder / "vae" / "config.json", decoder)
    config_path = folder / "unet" / "config.json"
    config = read_json(config_path)
    shown = 3 if pipeline == UPSCALER else 0
    expect(config_path, config, "_class_name", ("UNet2DConditionModel",))
    expect(config_path, config, "in_channels", (decoder.channels + shown,))
    expect(config_path, config, "out_channels", (decoder.channels,))
    for field in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        expect(config_path, config, field, (None,))
    expect(config_path, config, "time_cond_proj_dim", (None,))
    choices = read_scheduler(folder / "scheduler", also=(DDIM, PNDM, EULER, EULER_ANCESTRAL))
    if pipeline == PIPELINE:
        check_kept(folder / "scheduler" / "scheduler_config.json", choices)
    if choices.learned_variance:
        path = folder / "scheduler" / "scheduler_config.json"
        raise UnsupportedModel(
            f"{path}: variance_type is learned_range, and the U-Net predicts no variance; "
            "supported: fixed_small, fixed_large",
            field=f"{path}:variance_type",
        )
    kind = offline_import("diffusers").UNet2DConditionModel
    unet = load_network(kind, folder / "unet", WEIGHTS, torch_dtype=torch.float32)
    check_classes(config_path, unet, has_levels=pipeline == UPSCALER)
    return SdParts(pipeline=pipeline, unet=unet, decoder=decoder, choices=choices)


def check_upscaler_decoder(path: Path, decoder: Decoder) -> None:
    """Refuse an autoencoder that the upscaler's pipeline changes, or fails with.

    Raises:
        UnsupportedModel: naming the field of its configuration.
    """
    if abs(decoder.scaling - UPSCALER_SCALING) > 1e-9:
        raise UnsupportedModel(
            f"{path}: scaling_factor is {decoder.scaling:g}, which {UPSCALER} changes as it is "
            f"loaded; supported: {UPSCALER_SCALING}",
            field=f"{path}:scaling_factor",
        )
    expect(path, read_json(path), "use_post_quant_conv", (None, True))


def check_kept(path: Path, choices: SchedulerChoices) -> None:
    """Refuse a scheduler that the pipeline changes as it is loaded.

    Raises:
        UnsupportedModel: naming the field.
    """
    schedule = choices.schedule
    shifted = schedule.spacing in ("leading", "leading_inside") and schedule.offset != 1
    for is_changed, field, wanted in (
        (shifted, "steps_offset", "1"),
        (choices.threshold.kind == "static", "clip_sample", "false"),
    ):
        if is_changed:
            raise UnsupportedModel(
                f"{path}: {field} is another than {wanted}, which {PIPELINE} makes of it as it is "
                f"loaded; supported: {wanted}",
                field=f"{path}:{field}",
            )


def check_classes(path: Path, unet: Any, *, has_levels: bool) -> None:
    """Refuse a U-Net that is told a class where the pipeline tells it none, or the other way.

    Raises:
        UnsupportedModel: naming the field of its configuration.
    """
    classes = unet.config.num_class_embeds
    if (classes is not None) != has_levels:
        wanted = "the number of noise levels" if has_levels else "None"
        raise UnsupportedModel(
            f"{path}: num_class_embeds is {classes!r}; supported: {wanted}",
            field=f"{path}:num_class_embeds",
        )


def read_decoder(folder: Path) -> Decoder:
    """The autoencoder of a folder.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    path = folder / "config.json"
    config = read_json(path)
    expect(path, config, "_class_name", ("AutoencoderKL",))
    expect(path, config, "out_channels", (None, 3))
    for field in ("shift_factor", "latents_mean", "latents_std"):
        expect(path, config, field, (None,))
    kind = offline_import("diffusers").AutoencoderKL
    vae = load_network(kind, folder, WEIGHTS, torch_dtype=torch.float32)
    scaling = float(vae.config.scaling_factor)
    if not scaling > 0:
        raise UnsupportedModel(
            f"{path}: scaling_factor is {scaling}; supported: a positive number",
            field=f"{path}:scaling_factor",
        )
    return Decoder(
        vae=vae,
        channels=int(vae.config.latent_channels),
        factor=2 ** (len(vae.config.block_out_channels) - 1),
        scaling=scaling,
    )


def read_words(folder: Path, unet: Any, *, pools: bool) -> TextEncoderDescription:
    """The text encoder of a folder, of the width that its U-Net reads; with pooled text or not."""
    path, index = folder / "model_index.json", read_json(folder / "model_index.json")
    expect_class(path, index, "text_encoder", ("CLIPTextModel",))
    expect_class(path, index, "tokenizer", ("CLIPTokenizer", "CLIPTokenizerFast"))
    words = clip_text_encoder(folder / "text_encoder", folder / "tokenizer", pools=pools)
    check_width(folder / "unet" / "config.json", unet, words.context_width)
    return words


def check_same_words(
    words: TextEncoderDescription, first: TextEncoderDescription, folder: Path
) -> None:
    """Refuse an upscaler that reads another encoder's embeddings than the first folder makes.

    Raises:
        UnsupportedModel: naming the folder.
    """
    said = [
        (w.tokenizer, w.max_tokens, w.context_width, w.pad_token, w.network.end)
        for w in (words, first)
    ]
    one, other = words.network.state_dict(), first.network.state_dict()
    same = one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and bool(torch.equal(one[name], other[name]))
        for name in one
    )
    if said[0] != said[1] or not same:
        path = folder / "text_encoder"
        raise UnsupportedModel(
            f"{path}: another text encoder than the first folder's, and a bundle has one; "
            "supported: the same tokenizer and weights",
            field=str(path),
        )


def latent_size(folder: Path, parts: SdParts) -> int:
    """Height and width of the latents that the U-Net was trained on.

    Raises:
        UnsupportedModel: they are no square.
    """
    size, path = parts.unet.config.sample_size, folder / "unet" / "config.json"
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UnsupportedModel(
            f"{path}: sample_size is {size!r}; supported: a positive whole number",
            field=f"{path}:sample_size",
        )
    written_by = str(read_json(path).get("_diffusers_version", ""))
    if size < OLD_SIZE and written_by.split(".")[:2] in [["0", str(n)] for n in range(9)]:
        raise UnsupportedModel(
            f"{path}: sample_size is {size} in a file of diffusers {written_by}, which {PIPELINE} "
            f"takes for {OLD_SIZE}; supported: {OLD_SIZE} and more, or a newer file",
            field=f"{path}:sample_size",
        )
    return size


def base_stage(parts: SdParts, size: int, norm: Any) -> StageDescription:
    """The latent of words; with a norm of theirs where the text encoder leaves it out."""
    network = SdNetwork(parts.unet, parts.step_of_time, norm)
    return StageDescription(
        name="base",
        network=network.eval().requires_grad_(requires_grad=False),
        output_resolution=size,
        **sampling_of(parts),
    )


def upscaler_stage(parts: SdParts, low: int, folder: Path, norm: Any) -> StageDescription:
    """The latent of words and of a picture of its own size.

    Args:
        parts: of the folder.
        low: height and width of the picture, and of the latent.
        folder: for errors.
        norm: of the words, where the text encoder leaves it out.
    """
    noising = read_noising(folder / "low_res_scheduler")
    levels, level = len(noising.alpha_bar), pipeline_default(UPSCALER, "noise_level")
    index = read_json(folder / "model_index.json")
    highest = min(index.get("max_noise_level") or 350, levels - 1)
    known = int(parts.unet.config.num_class_embeds)
    if level > highest:
        path = folder / "model_index.json"
        raise UnsupportedModel(
            f"{path}: max_noise_level is {highest}; supported: at least the pipeline's default "
            f"{level}",
            field=f"{path}:max_noise_level",
        )
    if highest >= known:
        path = folder / "unet" / "config.json"
        raise UnsupportedModel(
            f"{path}: num_class_embeds is {known}; supported: more than the {highest} noise levels "
            "of the folder",
            field=f"{path}:num_class_embeds",
        )
    network = SdUpscaler(parts.unet, parts.step_of_time, levels, norm)
    return StageDescription(
        name=f"up{low * parts.decoder.factor}",
        network=network.eval().requires_grad_(requires_grad=False),
        output_resolution=low,
        input_resolution=low,
        enlarge="none",
        # Level `s` is training step `s * levels - 1`; a clean picture the network never saw.
        augmentation=AugmentationSpec(
            lowest=1 / levels,
            highest=(highest + 1) / levels,
            default=(level + 1) / levels,
            schedule=noising,
        ),
        **sampling_of(parts),
    )


def sampling_of(parts: SdParts) -> dict[str, Any]:
    """What both kinds of stages have in common."""
    choices = parts.choices
    weight = float(pipeline_default(parts.pipeline, "guidance_scale"))
    return {
        "latent_channels": parts.decoder.channels,
        "steps": pipeline_default(parts.pipeline, "num_inference_steps"),
        "schedule": choices.schedule,
        "prediction": choices.prediction,
        "sampler": choices.sampler,
        "start": choices.start,
        "gamma": choices.gamma,
        "guidance": GuidanceSpec(kind="constant", weight=weight),
        "null_text": "",
        "threshold": choices.threshold,
        "uses_mask": False,
        "training": {"parameters": float(sum(p.numel() for p in parts.unet.parameters()))},
    }


def decoder_stage(
    name: str, decoder: Decoder, size: int, *, passes_words: bool
) -> AutoencoderDescription:
    """The picture of a latent.

    Args:
        name: of the component.
        decoder: of the folder.
        size: height and width of the latent.
        passes_words: whether a stage after it reads them.
    """
    return AutoencoderDescription(
        name=name,
        network=SdDecoder(decoder.vae).eval().requires_grad_(requires_grad=False),
        encodes=False,
        resolution=size * decoder.factor,
        latent_resolution=size,
        latent_channels=decoder.channels,
        scaling=decoder.scaling,
        passes_words=passes_words,
    )
