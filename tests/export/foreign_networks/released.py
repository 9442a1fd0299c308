"""Networks of released models, tiny and of random weights: Stable Diffusion 3, Flux, Stable Cascade.

Classes of diffusers that `export.passes` was not written for. The library is imported when a
network is built.
"""

# ruff: noqa: E501  a network is one paragraph of its configuration

from typing import Any

import torch

from tests.export.foreign_networks.diffusers_networks import TIME, model
from tests.export.foreign_networks.network import Network, Shape

LATENT: Shape = ("batch", 4, 16, 16)
TEXT: Shape = ("batch", "tokens", 16)
POOLED: Shape = ("batch", 16)


def joint(m: Any, x: Any, t: Any, y: Any, p: Any) -> Any:
    """A transformer of pictures and words that reads pooled text too."""
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        pooled_projections=p,
        timestep=t * 999,
        return_dict=False,
    )[0]


def flux(m: Any, x: Any, t: Any, y: Any, p: Any) -> Any:
    """Flux: packed pixels with places, words without."""
    side = torch.arange(4.0)
    places = torch.stack(
        [0 * side[:, None] + side * 0, side[:, None] + 0 * side, side + 0 * side[:, None]], -1
    )
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        pooled_projections=p,
        timestep=t,
        img_ids=places.reshape(16, 3),
        txt_ids=torch.zeros(y.shape[1], 3),
        return_dict=False,
    )[0]


def cascade_prior(m: Any, x: Any, t: Any, y: Any, p: Any) -> Any:
    """Stable Cascade: words, pooled words, and no picture."""
    return m.model(
        sample=x,
        timestep_ratio=t,
        clip_text_pooled=p[:, None],
        clip_text=y,
        clip_img=p[:, None],
        return_dict=False,
    )[0]


def cascade_decoder(m: Any, x: Any, t: Any, p: Any, e: Any) -> Any:
    """Stable Cascade's second stage: the latent of the first."""
    return m.model(
        sample=x, timestep_ratio=t, clip_text_pooled=p[:, None], effnet=e, return_dict=False
    )[0]


CASCADE = {
    "conditioning_dim": 16,
    "block_out_channels": (16, 16),
    "num_attention_heads": (2, 2),
    "down_num_layers_per_block": (1, 1),
    "up_num_layers_per_block": (1, 1),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (1, 1),
    "block_types_per_layer": (
        ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
    )
    * 2,
    "switch_level": (False,),
    "clip_text_in_channels": 16,
    "clip_text_pooled_in_channels": 16,
    "clip_image_in_channels": 16,
    "clip_seq": 2,
    "kernel_size": 3,
    "dropout": (0.0, 0.0),
}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}

RELEASED: list[Network] = [
    model("sd3", {"x": LATENT, "t": TIME, "y": TEXT, "p": POOLED}, "SD3Transformer2DModel", joint,
          sample_size=16, patch_size=2, in_channels=4, out_channels=4, caption_projection_dim=16,
          joint_attention_dim=16, pooled_projection_dim=16, pos_embed_max_size=16, **HEADS),
    model("sd35_qk_norm", {"x": LATENT, "t": TIME, "y": TEXT, "p": POOLED}, "SD3Transformer2DModel", joint,
          sample_size=16, patch_size=2, in_channels=4, out_channels=4, caption_projection_dim=16,
          joint_attention_dim=16, pooled_projection_dim=16, pos_embed_max_size=16, qk_norm="rms_norm",
          dual_attention_layers=(0,), **HEADS),
    model("flux", {"x": ("batch", 16, 4), "t": TIME, "y": ("batch", 6, 16), "p": POOLED}, "FluxTransformer2DModel",
          flux, patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
          num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8)),
    model("stable_cascade_prior", {"x": LATENT, "t": TIME, "y": TEXT, "p": POOLED}, "StableCascadeUNet",
          cascade_prior, in_channels=4, out_channels=4, timestep_ratio_embedding_dim=16, patch_size=1, **CASCADE),
    model("stable_cascade_decoder", {"x": LATENT, "t": TIME, "p": POOLED, "e": ("batch", 4, 4, 4)},
          "StableCascadeUNet", cascade_decoder, in_channels=4, out_channels=4, timestep_ratio_embedding_dim=16,
          patch_size=2, effnet_in_channels=4,
          **{k: v for k, v in CASCADE.items() if k not in ("clip_text_in_channels", "clip_image_in_channels")}),
]  # fmt: skip
