"""The arguments of imagen-pytorch's `Imagen` and `Unet` in the words of this project.

What they leave out has the library's own default. Knows names and numbers; not networks.

References:
    imagen-pytorch 2.1.0, `Imagen.__init__`, `Imagen.sample` and `Unet.__init__`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.diffusion.request_options import MAX_STEPS
from export.adapters.json_fields import (
    JsonField,
    at_least,
    is_number,
    is_truth,
    list_of,
    none_or,
    one_of,
    one_or_list,
    read_fields,
    refuse_value,
)
from export.adapters.local_folder import read_json
from export.adapters.scheduler_fields import share
from export.layouts.imagen_unet import ImagenLevel, ImagenShape

ARGUMENTS = "arguments.json"
WHOLE, TRUTH = "a whole number from 1", "true or false"
NUMBERS = "numbers"
THOUSANDTHS = 1000
OBJECTIVES = {"noise": "epsilon", "x_start": "x0", "v": "v"}
SCHEDULES = ("cosine", "linear")
ENLARGINGS = ("nearest", "bilinear")


def odd(value: Any) -> bool:
    """A size of kernels that has a middle."""
    return at_least(1)(value) and value % 2 == 1


def even(value: Any) -> bool:
    """A number that halves."""
    return at_least(2)(value) and value % 2 == 0


WHOLE_FIELD = JsonField(None, at_least(1), WHOLE)
OFF = "false"
IMAGEN: Mapping[str, JsonField] = {
    "unets": JsonField(None, list_of(lambda v: isinstance(v, dict)), "a list of arguments"),
    "image_sizes": JsonField(None, one_or_list(at_least(1)), "sizes of pictures"),
    "text_embed_dim": JsonField(None, none_or(at_least(1)), WHOLE),
    "channels": JsonField(3, one_of(3), "3"),
    "timesteps": JsonField(1000, one_or_list(at_least(1)), WHOLE),
    "noise_schedules": JsonField("cosine", one_or_list(one_of(*SCHEDULES)), "cosine, linear"),
    "pred_objectives": JsonField("noise", one_or_list(one_of(*OBJECTIVES)), "noise, x_start, v"),
    "lowres_noise_schedule": JsonField("linear", one_of(*SCHEDULES), "cosine, linear"),
    "lowres_sample_noise_level": JsonField(0.2, is_number, "thousandths from 0.001 to 1"),
    "condition_on_text": JsonField(default=True, fits=is_truth, words=TRUTH),
    "cond_drop_prob": JsonField(0.1, lambda v: is_number(v) and 0 <= v < 1, "a share below 1"),
    "dynamic_thresholding": JsonField(default=True, fits=one_or_list(is_truth), words=TRUTH),
    "dynamic_thresholding_percentile": JsonField(0.95, share, "a share between 0 and 1"),
    "resize_mode": JsonField("nearest", one_of(*ENLARGINGS), ", ".join(ENLARGINGS)),
    "temporal_downsample_factor": JsonField(1, one_of(1), "1"),
    "video": JsonField(default=False, fits=one_of(False), words=OFF),  # noqa: FBT003
    "sample": JsonField({}, lambda v: isinstance(v, dict), "arguments of Imagen.sample"),
}
UNREAD = (
    "text_encoder_name", "loss_type", "random_crop_sizes", "per_sample_random_aug_noise_level",
    "auto_normalize_img", "only_train_unet_number", "resize_cond_video_frames",
    "min_snr_loss_weight", "min_snr_gamma",
)  # fmt: skip
"""Of training, or of the range of numbers that pictures have outside."""
SAMPLE: Mapping[str, JsonField] = {
    "cond_scale": JsonField(1.0, one_or_list(is_number), NUMBERS),
    "cfg_remove_parallel_component": JsonField(default=True, fits=is_truth, words=TRUTH),
    "cfg_keep_parallel_frac": JsonField(0.0, lambda v: is_number(v) and v == 0, "0"),
    "lowres_sample_noise_level": JsonField(None, none_or(is_number), "as of Imagen"),
}

UNET: Mapping[str, JsonField] = {
    "dim": WHOLE_FIELD,
    "num_resnet_blocks": JsonField(1, one_or_list(at_least(1)), WHOLE),
    "cond_dim": JsonField(None, none_or(at_least(1)), WHOLE),
    "num_time_tokens": JsonField(2, at_least(1), WHOLE),
    "learned_sinu_pos_emb_dim": JsonField(16, even, "an even number"),
    "dim_mults": JsonField([1, 2, 4, 8], list_of(at_least(1)), "whole numbers from 1"),
    "cond_images_channels": JsonField(0, one_of(0), "0"),
    "channels": JsonField(3, one_of(3), "3"),
    "channels_out": JsonField(None, none_or(one_of(3)), "3"),
    "attn_dim_head": JsonField(64, at_least(1), WHOLE),
    "attn_heads": JsonField(8, at_least(2), "a whole number from 2"),
    "ff_mult": JsonField(2.0, lambda v: is_number(v) and v > 0, "a positive number"),
    "layer_attns": JsonField(default=True, fits=one_or_list(is_truth), words=TRUTH),
    "layer_attns_depth": JsonField(1, one_or_list(at_least(1)), WHOLE),
    "layer_mid_attns_depth": JsonField(1, at_least(1), WHOLE),
    "attend_at_middle": JsonField(default=True, fits=is_truth, words=TRUTH),
    "layer_cross_attns": JsonField(default=True, fits=one_or_list(is_truth), words=TRUTH),
    "use_linear_attn": JsonField(default=False, fits=one_of(False), words=OFF),  # noqa: FBT003
    "use_linear_cross_attn": JsonField(
        default=False,
        fits=one_of(False),  # noqa: FBT003
        words=OFF,
    ),
    "max_text_len": JsonField(256, lambda v: at_least(1)(v) and v <= 512, "1 to 512"),
    "init_dim": JsonField(None, none_or(at_least(1)), WHOLE),
    "init_conv_kernel_size": JsonField(7, odd, "an odd number"),
    "init_cross_embed": JsonField(default=True, fits=is_truth, words=TRUTH),
    "init_cross_embed_kernel_sizes": JsonField([3, 7, 15], list_of(odd), "odd numbers"),
    "cross_embed_downsample": JsonField(
        default=False,
        fits=one_of(False),  # noqa: FBT003
        words=f"{OFF}: the library itself makes no other",
    ),
    "attn_pool_text": JsonField(default=True, fits=is_truth, words=TRUTH),
    "attn_pool_num_latents": JsonField(32, at_least(1), WHOLE),
    "memory_efficient": JsonField(default=False, fits=is_truth, words=TRUTH),
    "init_conv_to_final_conv_residual": JsonField(default=False, fits=is_truth, words=TRUTH),
    "use_global_context_attn": JsonField(default=True, fits=is_truth, words=TRUTH),
    "scale_skip_connection": JsonField(default=True, fits=is_truth, words=TRUTH),
    "final_resnet_block": JsonField(default=True, fits=is_truth, words=TRUTH),
    "final_conv_kernel_size": JsonField(3, odd, "an odd number"),
    "self_cond": JsonField(default=False, fits=one_of(False), words=OFF),  # noqa: FBT003
    "combine_upsample_fmaps": JsonField(
        default=False,
        fits=one_of(False),  # noqa: FBT003
        words=OFF,
    ),
    "pixel_shuffle_upsample": JsonField(default=True, fits=is_truth, words=TRUTH),
}
UNREAD_OF_UNETS = (
    "text_embed_dim", "num_image_tokens", "out_dim", "lowres_cond", "layer_attns_add_text_cond",
    "cond_on_text", "dropout", "resize_mode", "cross_embed_downsample_kernel_sizes",
)  # fmt: skip
"""Replaced by `Imagen`, of training, or read by nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagenStage:
    """One U-Net's arguments, and what `Imagen` says of its stage."""

    path: Path
    size: int
    low: int | None
    shape: ImagenShape
    """`embedded` is 0 where the width of texts is not known yet."""
    steps: int
    schedule: str
    objective: str
    is_dynamic: bool
    scale: float
    """Of guidance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagenArguments:
    """A folder's arguments, checked."""

    path: Path
    stages: tuple[ImagenStage, ...]
    has_words: bool
    embedded: int | None
    """Width of texts, where it is given."""
    is_projected: bool
    """Whether guidance leaves out what is parallel to the prediction."""
    percentile: float
    enlarge: str
    level: int
    """Of the smaller picture's noise, in thousandths."""
    noising: str


def read_imagen(folder: Path) -> ImagenArguments:
    """The arguments of a folder.

    Raises:
        UnsupportedModel: naming the file and the field.
    """
    path = folder / ARGUMENTS
    values = read_fields(path, read_json(path), IMAGEN, UNREAD)
    for name in ("unets", "image_sizes"):
        if values[name] is None:
            refuse_value(path, name, None, IMAGEN[name].words)
    sampled = read_fields(path, values["sample"], SAMPLE, ("use_tqdm",))
    count = len(values["unets"])
    sizes = each(path, "image_sizes", values, count)
    schedules = schedules_of(path, values["noise_schedules"], count)
    scales = each(path, "cond_scale", sampled, count)
    has_words = values["condition_on_text"]
    if any(scale != 1 for scale in scales) and not (has_words and values["cond_drop_prob"] > 0):
        refuse_value(path, "cond_scale", sampled["cond_scale"],
                     "1 of networks without words, or trained without dropping them")  # fmt: skip
    stages = tuple(
        ImagenStage(
            path=path,
            size=sizes[number],
            low=sizes[number - 1] if number else None,
            shape=shape_of(path, unet, enlarges=number > 0, has_words=has_words),
            steps=each(path, "timesteps", values, count)[number],
            schedule=schedules[number],
            objective=each(path, "pred_objectives", values, count)[number],
            is_dynamic=each(path, "dynamic_thresholding", values, count)[number],
            scale=float(scales[number]),
        )
        for number, unet in enumerate(values["unets"])
    )
    for stage in stages:
        check_stage(stage)
    level = sampled["lowres_sample_noise_level"]
    return ImagenArguments(
        path=path,
        stages=stages,
        has_words=has_words,
        embedded=values["text_embed_dim"],
        is_projected=sampled["cfg_remove_parallel_component"],
        percentile=values["dynamic_thresholding_percentile"],
        enlarge=values["resize_mode"],
        level=thousandths(path, values["lowres_sample_noise_level"] if level is None else level),
        noising=values["lowres_noise_schedule"],
    )


def each(path: Path, name: str, values: Mapping[str, Any], count: int) -> list[Any]:
    """A field's value for every U-Net.

    Raises:
        UnsupportedModel: it lists more or fewer.
    """
    value = values[name]
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        refuse_value(path, name, value, f"one, or one for each of {count} unets")
    return value


def schedules_of(path: Path, given: Any, count: int) -> list[str]:
    """The noise schedule of every U-Net: those not given are cosine up to the second, then linear.

    Raises:
        UnsupportedModel: more are given.
    """
    found = list(given) if isinstance(given, list) else [given]
    found += ["cosine"] * (2 - len(found))
    found += ["linear"] * (count - len(found))
    if isinstance(given, list) and len(given) > count:
        refuse_value(path, "noise_schedules", given, f"up to one for each of {count} unets")
    return found


def thousandths(path: Path, level: float) -> int:
    """A level of noise as training steps of its schedule.

    Raises:
        UnsupportedModel: it is none of them.
    """
    found = round(level * THOUSANDTHS)
    if not 1 <= found <= THOUSANDTHS or abs(found / THOUSANDTHS - level) > 1e-9:
        refuse_value(path, "lowres_sample_noise_level", level,
                     IMAGEN["lowres_sample_noise_level"].words)  # fmt: skip
    return found


def check_stage(stage: ImagenStage) -> None:
    """Refuse sizes and steps that no stage here can have.

    Raises:
        UnsupportedModel: naming the field.
    """
    if stage.steps > MAX_STEPS:
        refuse_value(stage.path, "timesteps", stage.steps, f"1 to {MAX_STEPS}")
    halved = 2 ** (len(stage.shape.levels) - (0 if stage.shape.halves_first else 1))
    low = stage.low or 1
    if stage.size % halved or stage.size % low:
        supported = f"multiples of {halved}, which the levels halve, and of the {low} before"
        refuse_value(stage.path, "image_sizes", stage.size, supported)


def shape_of(
    path: Path, given: Mapping[str, Any], *, enlarges: bool, has_words: bool
) -> ImagenShape:
    """The network that a U-Net's arguments describe.

    Raises:
        UnsupportedModel: naming the field.
    """
    values = read_fields(path, given, UNET, UNREAD_OF_UNETS)
    if values["dim"] is None:
        refuse_value(path, "dim", None, WHOLE)
    width, first = values["dim"], values["init_dim"] or values["dim"]
    by = values["dim_mults"]
    if not values["memory_efficient"] and by[0] != 1:
        refuse_value(path, "dim_mults", by, "1 first, unless memory_efficient")
    if first != width and (
        values["memory_efficient"] or values["init_conv_to_final_conv_residual"]
    ):
        refuse_value(path, "init_dim", first, f"{width}, as dim, with memory_efficient or a "
                     "residual to the last convolution")  # fmt: skip
    count = len(by)
    widths = [first, *(width * factor for factor in by)]
    lists = {
        name: each(path, name, values, count)
        for name in ("num_resnet_blocks", "layer_attns", "layer_attns_depth", "layer_cross_attns")
    }
    levels = tuple(
        ImagenLevel(
            before=widths[number],
            width=widths[number + 1],
            blocks=lists["num_resnet_blocks"][number],
            attends=lists["layer_attns"][number],
            depth=lists["layer_attns_depth"][number],
            reads=lists["layer_cross_attns"][number],
        )
        for number in range(count)
    )
    several = tuple(values["init_cross_embed_kernel_sizes"])
    return ImagenShape(
        width=width,
        first=first,
        levels=levels,
        text=values["cond_dim"] or width,
        embedded=0 if has_words else None,
        enlarges=enlarges,
        longest=values["max_text_len"],
        latents=values["attn_pool_num_latents"] if values["attn_pool_text"] else None,
        sines=values["learned_sinu_pos_emb_dim"],
        time_tokens=values["num_time_tokens"],
        heads=(values["attn_heads"], values["attn_dim_head"]),
        wider=float(values["ff_mult"]),
        middle_depth=values["layer_mid_attns_depth"] if values["attend_at_middle"] else 0,
        kernels=several if values["init_cross_embed"] else (),
        first_kernel=values["init_conv_kernel_size"],
        halves_first=values["memory_efficient"],
        keeps_first=values["init_conv_to_final_conv_residual"],
        gated=values["use_global_context_attn"],
        scaled_skips=values["scale_skip_connection"],
        last_block=values["final_resnet_block"],
        last_kernel=values["final_conv_kernel_size"],
        shuffles=values["pixel_shuffle_upsample"],
    )
