"""Folders of imagen-pytorch in many configurations, and what this project makes of each.

The library itself is only imported by `benchmarks.foreign_grid`; CI has pictures that it made.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade.types import ContextF16, ImageU8
from export.adapters.imagen_arguments import read_imagen
from export.adapters.imagen_pytorch import describe_imagen
from export.description import TextEncoderDescription
from export.layouts.imagen_unet import ImagenUNet
from stages.safetensors_file import save_safetensors
from tests.support.described import CascadeStart, described_pictures
from tests.support.known_weights import known_weights, shapes_of

WIDTH, TOKENS = 16, 5
SMALL = {
    "dim": 8, "dim_mults": [1, 2], "attn_dim_head": 8, "attn_heads": 2, "max_text_len": 8,
    "attn_pool_num_latents": 3, "learned_sinu_pos_emb_dim": 4,
}  # fmt: skip
"""Arguments of a small U-Net; the rest are the library's defaults."""
SPREAD = {"to_time_hiddens.0.weights", "to_lowres_time_hiddens.0.weights"}
"""Frequencies, which are no matrices and no biases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagenCase:
    """One configuration."""

    name: str
    imagen: dict[str, Any]
    unets: tuple[dict[str, Any], ...] = ({},)
    refused: str = ""
    left_over: str = ""
    """Name of a weight that no network has."""
    texts: int = WIDTH
    """Width of the text encoder."""

    @property
    def arguments(self) -> dict[str, Any]:
        """As the file holds them."""
        return {"unets": [{**SMALL, **unet} for unet in self.unets], **self.imagen}


UNET_CHOICES: dict[str, tuple[Any, ...]] = {
    "num_resnet_blocks": (1, 1, 2, [1, 2]),
    "cond_dim": (None, 12),
    "num_time_tokens": (2, 1),
    "layer_attns": (True, False, [False, True]),
    "layer_attns_depth": (1, 2),
    "layer_mid_attns_depth": (1, 2),
    "attend_at_middle": (True, True, False),
    "layer_cross_attns": (True, [False, True], False),
    "init_cross_embed": (True, True, False),
    "attn_pool_text": (True, True, False),
    "memory_efficient": (False, True),
    "init_conv_to_final_conv_residual": (False, True),
    "use_global_context_attn": (True, False),
    "scale_skip_connection": (True, False),
    "final_resnet_block": (True, False),
    "final_conv_kernel_size": (3, 1),
    "pixel_shuffle_upsample": (True, False),
    "ff_mult": (2.0, 1.5),
    "attn_heads": (2, 4),
    "dim_mults": ([1, 2], [1, 2], [1, 1, 2], [1, 3]),
}
OF_IMAGEN: dict[str, tuple[Any, ...]] = {
    "timesteps": (4, 5, 8, 7, 10),
    "noise_schedules": ("cosine", "linear"),
    "pred_objectives": ("noise", "x_start", "v"),
    "dynamic_thresholding": (True, True, False),
    "dynamic_thresholding_percentile": (0.95, 0.9, 0.995),
}
OF_CASCADES: dict[str, tuple[Any, ...]] = {
    "lowres_noise_schedule": ("linear", "cosine"),
    "lowres_sample_noise_level": (0.2, 0.1, 0.35),
    "resize_mode": ("nearest", "nearest", "bilinear"),
}
REFUSED: tuple[tuple[str, dict[str, Any], dict[str, Any], str], ...] = (
    ("self conditioning", {}, {"self_cond": True}, "self_cond"),
    ("other pictures", {}, {"cond_images_channels": 3}, "cond_images_channels"),
    ("linear attention", {}, {"use_linear_attn": True}, "use_linear_attn"),
    ("linear text", {}, {"use_linear_cross_attn": True}, "use_linear_cross_attn"),
    ("halving kernels", {}, {"cross_embed_downsample": True}, "cross_embed_downsample"),
    ("all scales", {}, {"combine_upsample_fmaps": True}, "combine_upsample_fmaps"),
    ("grey", {"channels": 1}, {}, "channels"),
    ("video", {"video": True}, {}, "video"),
    ("frames", {"temporal_downsample_factor": 2}, {}, "temporal_downsample_factor"),
    ("bicubic", {"resize_mode": "bicubic"}, {}, "resize_mode"),
    ("run too long", {"timesteps": 1001}, {}, "timesteps"),
    ("no schedule", {"noise_schedules": "sigmoid"}, {}, "noise_schedules"),
    ("no objective", {"pred_objectives": "score"}, {}, "pred_objectives"),
    ("odd size", {"image_sizes": [9]}, {}, "image_sizes"),
    ("sizes missing", {"image_sizes": [8, 16]}, {}, "image_sizes"),
    ("level between", {"lowres_sample_noise_level": 0.1234}, {}, "lowres_sample_noise_level"),
    ("half parallel", {"sample": {"cond_scale": 3.0, "cfg_keep_parallel_frac": 0.5}}, {},
     "cfg_keep_parallel_frac"),
    ("never dropped", {"cond_drop_prob": 0.0, "sample": {"cond_scale": 3.0}}, {}, "cond_scale"),
    ("first width", {}, {"init_dim": 12, "memory_efficient": True}, "init_dim"),
    ("first factor", {}, {"dim_mults": [2, 4]}, "dim_mults"),
    ("unknown", {"elucidated": True}, {}, "elucidated"),
    ("unknown of unet", {}, {"dims": 8}, "dims"),
    ("level words", {}, {"layer_attns": [True]}, "layer_attns"),
)  # fmt: skip


def imagen_cases() -> Iterator[ImagenCase]:
    """Every configuration, the same ones ever."""
    draw = random.Random(11)

    def some(choices: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
        return {name: draw.choice(values) for name, values in choices.items()}

    for number in range(32):
        scale = draw.choice((1.0, 3.0, 5.0))
        projected = draw.choice((True, True, False))
        sample = {"cond_scale": scale, "cfg_remove_parallel_component": projected}
        words = number % 8 != 7
        imagen = {"image_sizes": [8], **some(OF_IMAGEN), "condition_on_text": words}
        imagen["sample"] = sample if words else {}
        yield ImagenCase(name=f"base {number}", imagen=imagen, unets=(fitting(some(UNET_CHOICES)),))
    for number in range(12):
        imagen = {"image_sizes": [8, 16], **some(OF_IMAGEN), **some(OF_CASCADES)}
        imagen["sample"] = {"cond_scale": draw.choice(([1.0, 2.0], 3.0))}
        unets = fitting(some(UNET_CHOICES)), fitting(some(UNET_CHOICES))
        yield ImagenCase(name=f"cascade {number}", imagen=imagen, unets=unets)
    guided = {"timesteps": 10, "sample": {"cond_scale": 3.0}}
    yield ImagenCase(
        name="defaults",
        imagen={"image_sizes": [8, 16], **guided},
        unets=({}, {"memory_efficient": True}),
    )
    yield ImagenCase(name="many steps", imagen={"image_sizes": [8], **guided, "timesteps": 100})
    for name, imagen, unet, refused in REFUSED:
        sound = {"image_sizes": [8], "timesteps": 4, **imagen}
        yield ImagenCase(name=name, imagen=sound, unets=(unet,), refused=refused)
    plain = {"image_sizes": [8], "timesteps": 4}
    yield ImagenCase(
        name="left over", imagen=plain, refused="unets.1.null", left_over="unets.1.null"
    )
    yield ImagenCase(name="other texts", imagen={**plain, "text_embed_dim": WIDTH}, texts=12,
                     refused="text_embed_dim")  # fmt: skip


def fitting(unet: dict[str, Any]) -> dict[str, Any]:
    """Arguments whose lists are as long as there are levels."""
    levels = len(unet["dim_mults"])
    return {
        name: (value * 2)[:levels] if isinstance(value, list) and name != "dim_mults" else value
        for name, value in unet.items()
    }


def write_imagen(case: ImagenCase, root: Path) -> Path:
    """The folder of a case, weights known by name and shape."""
    folder = root / case.name.replace(" ", "_")
    folder.mkdir(parents=True)
    sound = case.arguments
    if case.refused:
        sound = {"unets": [SMALL], "image_sizes": [8], "timesteps": 4}
    (folder / "arguments.json").write_text(json.dumps(sound))
    tensors: dict[str, torch.Tensor] = {}
    for number, stage in enumerate(read_imagen(folder).stages):
        embedded = None if stage.shape.embedded is None else WIDTH
        network = ImagenUNet(replace(stage.shape, embedded=embedded))
        known = known_weights(shapes_of(network), seed=number)
        tensors |= {f"unets.{number}.{name}": settled(name, t) for name, t in known.items()}
    if case.left_over:
        tensors[case.left_over] = torch.zeros(1)
    save_safetensors(folder / "model.safetensors", tensors)
    (folder / "arguments.json").write_text(json.dumps(case.arguments))
    return folder


def settled(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Weights of a network whose pictures do not turn over with a last digit, as trained ones.

    Frequencies turn less than once over all log-SNR, and what is predicted is small. With larger
    ones the library itself makes other pictures of weights that are 3e-7 larger.
    """
    if name in SPREAD:
        return tensor * 0.02
    return tensor * 0.05 if name == "final_conv.weight" else tensor


def text_of(case: ImagenCase) -> ContextF16 | None:
    """Some embeddings `[tokens, width]` float16; None without words."""
    if not case.arguments.get("condition_on_text", True):
        return None
    return np.random.default_rng(2).standard_normal((TOKENS, WIDTH)).astype(np.float16)


def encoder_of_width(width: int) -> TextEncoderDescription:
    """An encoder that is never asked."""
    return TextEncoderDescription(
        network=torch.nn.Identity(),
        tokenizer=b"",
        max_tokens=TOKENS,
        context_width=width,
        provenance="none",
    )


def our_imagen(case: ImagenCase, folder: Path) -> dict[str, ImageU8]:
    """The picture of every stage as this project makes it."""
    text = text_of(case)
    described = describe_imagen(folder, None if text is None else encoder_of_width(case.texts))
    return described_pictures(described, CascadeStart(context=text))
