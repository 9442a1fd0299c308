"""Transformers of released models, tiny and of random weights: DiT, AuraFlow, PixArt.

Classes of diffusers that `export.passes` was not written for. The library is imported when a
network is built.
"""

# ruff: noqa: E501  a network is one paragraph of its configuration

from dataclasses import replace
from typing import Any

from tests.export.foreign_networks.diffusers_networks import TIME, model
from tests.export.foreign_networks.network import Network, Shape

LATENT: Shape = ("batch", 4, 16, 16)
TEXT: Shape = ("batch", "tokens", 16)
WORDS: Shape = ("batch", 6, 16)
MASK: Shape = ("batch", 6)
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}


def worded(m: Any, x: Any, t: Any, y: Any) -> Any:
    """Latents and words."""
    return m.model(hidden_states=x, encoder_hidden_states=y, timestep=t * 999, return_dict=False)[0]


def classed(m: Any, x: Any, t: Any, c: Any) -> Any:
    """Latents and a class."""
    return m.model(hidden_states=x, timestep=t * 999, class_labels=c, return_dict=False)[0]


def pixart(m: Any, x: Any, t: Any, y: Any, mask: Any = None) -> Any:
    """PixArt-Sigma: no sizes."""
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        encoder_attention_mask=mask,
        timestep=t * 999,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        return_dict=False,
    )[0]


def pixart_sized(m: Any, x: Any, t: Any, y: Any, p: Any) -> Any:
    """PixArt-Alpha at 1024: the size and the aspect ratio beside the words."""
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        timestep=t * 999,
        added_cond_kwargs={"resolution": p[:, :2] * 1024, "aspect_ratio": p[:, 2:3]},
        return_dict=False,
    )[0]


SIZED = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "norm_num_groups": 4}
PIXART = {
    "out_channels": 8,
    "cross_attention_dim": 16,
    "caption_channels": 16,
    "num_embeds_ada_norm": 1000,
}

TRANSFORMERS: list[Network] = [
    replace(model("dit_classes", {"x": LATENT, "t": TIME, "c": ("batch",)}, "DiTTransformer2DModel", classed,
                  out_channels=8, num_embeds_ada_norm=100, **SIZED, **HEADS), ids=("c",)),
    model("aura_flow", {"x": LATENT, "t": TIME, "y": TEXT}, "AuraFlowTransformer2DModel", worded, sample_size=16,
          in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2,
          joint_attention_dim=16, caption_projection_dim=16, pos_embed_max_size=64),
]  # fmt: skip

PIXART_NETWORKS: list[Network] = [
    model("pixart_alpha", {"x": LATENT, "t": TIME, "y": TEXT, "p": ("batch", 3)}, "PixArtTransformer2DModel", pixart_sized,
          use_additional_conditions=True, **SIZED, **{**PIXART, "cross_attention_dim": 24},
          **{**HEADS, "attention_head_dim": 12}),
    model("pixart_sigma", {"x": LATENT, "t": TIME, "y": TEXT}, "PixArtTransformer2DModel", pixart, use_additional_conditions=False,
          interpolation_scale=2, **SIZED, **PIXART, **HEADS),
    model("pixart_masked", {"x": LATENT, "t": TIME, "y": WORDS, "mask": MASK}, "PixArtTransformer2DModel", pixart,
          use_additional_conditions=False, **SIZED, **PIXART, **HEADS),
]  # fmt: skip
"""Refused: ONNX Runtime does not load their graphs, and torch cannot follow a repeated mask."""
