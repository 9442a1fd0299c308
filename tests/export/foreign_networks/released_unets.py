"""U-Nets of released models, tiny and of random weights: SDXL, Kandinsky, ControlNet, Stable Video.

Classes of diffusers that `export.passes` was not written for. The library is imported when a
network is built.
"""

# ruff: noqa: E501  a network is one paragraph of its configuration

from typing import Any

from tests.export.foreign_networks.diffusers_networks import TIME, model
from tests.export.foreign_networks.network import Network, Shape

LATENT: Shape = ("batch", 4, 16, 16)
TEXT: Shape = ("batch", "tokens", 16)
POOLED: Shape = ("batch", 16)
SIZES: Shape = ("batch", 6)


def sized(m: Any, x: Any, t: Any, y: Any, p: Any, s: Any) -> Any:
    """SDXL: pooled words and six sizes."""
    return m.model(
        x,
        t * 999,
        encoder_hidden_states=y,
        added_cond_kwargs={"text_embeds": p, "time_ids": s * 1024},
        return_dict=False,
    )[0]


def embedded(m: Any, x: Any, t: Any, p: Any) -> Any:
    """Kandinsky 2.2: the embedding of a picture in the place of words."""
    return m.model(
        x,
        t * 999,
        encoder_hidden_states=None,
        added_cond_kwargs={"image_embeds": p},
        return_dict=False,
    )[0]


def masked(m: Any, x: Any, t: Any, y: Any, mask: Any) -> Any:
    """Kandinsky 3: words and which of them count."""
    return m.model(
        x, t * 999, encoder_hidden_states=y, encoder_attention_mask=mask, return_dict=False
    )[0]


def controlled(m: Any, x: Any, t: Any, y: Any, c: Any) -> Any:
    """ControlNet: one map for every block of the U-Net that it guides."""
    downs, middle = m.model(
        x, t * 999, encoder_hidden_states=y, controlnet_cond=c, return_dict=False
    )
    return (*downs, middle)


def framed(m: Any, x: Any, t: Any, y: Any, s: Any) -> Any:
    """Stable Video Diffusion: a row of frames."""
    return m.model(x, t, encoder_hidden_states=y, added_time_ids=s, return_dict=False)[0]


UNET = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "in_channels": 4,
}
CROSS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "cross_attention_dim": 16,
}
UP = {"out_channels": 4, "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}

UNETS: list[Network] = [
    model("sdxl", {"x": LATENT, "t": TIME, "y": TEXT, "p": POOLED, "s": SIZES}, "UNet2DConditionModel", sized,
          attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), use_linear_projection=True,
          addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64,
          **UNET, **CROSS, **UP),
    model("kandinsky_2_2", {"x": LATENT, "t": TIME, "p": POOLED}, "UNet2DConditionModel", embedded,
          down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
          up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
          mid_block_type="UNetMidBlock2DSimpleCrossAttn", resnet_time_scale_shift="scale_shift",
          addition_embed_type="image", encoder_hid_dim=16, encoder_hid_dim_type="image_proj", cross_attention_dim=16,
          attention_head_dim=4, out_channels=8, **UNET),
    model("kandinsky_3", {"x": LATENT, "t": TIME, "y": TEXT, "mask": ("batch", "tokens")}, "Kandinsky3UNet", masked,
          in_channels=4, time_embedding_dim=16, groups=4, attention_head_dim=4, layers_per_block=2,
          block_out_channels=(8, 16), cross_attention_dim=16, encoder_hid_dim=16),
    model("controlnet", {"x": LATENT, "t": TIME, "y": TEXT, "c": ("batch", 3, 128, 128)}, "ControlNetModel", controlled,
          attention_head_dim=4, conditioning_embedding_out_channels=(4, 4, 8, 8), **UNET, **CROSS),
    model("unet_with_control", {"x": LATENT, "t": TIME, "y": TEXT, "a": ("batch", 8, 16, 16), "b": ("batch", 16, 8, 8),
                                "c": ("batch", 16, 8, 8)}, "UNet2DConditionModel",
          lambda m, x, t, y, a, b, c: m.model(
              x, t * 999, encoder_hidden_states=y, return_dict=False, mid_block_additional_residual=c,
              down_block_additional_residuals=(a, a, a[..., ::2, ::2], b))[0],
          attention_head_dim=4, **UNET, **CROSS, **UP),
    model("stable_video", {"x": ("batch", 3, 8, 16, 16), "t": TIME, "y": ("batch", 1, 16), "s": ("batch", 3)},
          "UNetSpatioTemporalConditionModel", framed, in_channels=8, out_channels=4, block_out_channels=(32, 64),
          down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
          up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), addition_time_embed_dim=8,
          projection_class_embeddings_input_dim=24, layers_per_block=1, cross_attention_dim=16,
          num_attention_heads=(2, 4), num_frames=3),
]  # fmt: skip
