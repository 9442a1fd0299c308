"""Classes of diffusers at tiny sizes with random weights: U-Nets, decoders, transformers.

The library is imported when a network is built, not when the list is read.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.export.foreign_networks.network import Network, Shape

FREE: Shape = ("batch", 3, "height", "width")
FIXED: Shape = ("batch", 3, 32, 32)
TIME: Shape = ("batch",)
TEXT: Shape = ("batch", "tokens", 16)


class Called(nn.Module):
    """A model of diffusers with tensors in by name and a tensor out."""

    def __init__(self, model: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.call = call


def model(
    name: str, inputs: dict[str, Shape], kind: str, call: Callable[..., Any], **config: Any
) -> Network:
    """A class of diffusers by name, its configuration, and how it is called."""

    def build() -> nn.Module:
        import diffusers

        wrapper = type(name, (Called,), {"forward": call})
        return wrapper(getattr(diffusers, kind)(**config), call)

    return Network(name=name, inputs=inputs, build=build)


def sampled(m: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A U-Net of pictures and times."""
    return m.model(x, t * 999, return_dict=False)[0]


def prompted(m: Any, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A U-Net that reads a text too."""
    return m.model(x, t * 999, encoder_hidden_states=y, return_dict=False)[0]


UNET = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "in_channels": 3,
    "out_channels": 3,
}
PLAIN = {
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "add_attention": False,
}
CROSS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
}
AUTOENCODER = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}

NETWORKS: list[Network] = [
    model("unet2d_free", {"x": FREE, "t": TIME}, "UNet2DModel", sampled, **UNET, **PLAIN),
    model(
        "unet2d_scale_shift",
        {"x": FREE, "t": TIME},
        "UNet2DModel",
        sampled,
        resnet_time_scale_shift="scale_shift",
        **UNET,
        **PLAIN,
    ),
    model(
        "unet2d_attention",
        {"x": FIXED, "t": TIME},
        "UNet2DModel",
        sampled,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **UNET,
    ),
    model(
        "unet_condition_free",
        {"x": FREE, "t": TIME, "y": TEXT},
        "UNet2DConditionModel",
        prompted,
        **UNET,
        **CROSS,
    ),
    model(
        "unet_condition_simple",
        {"x": FIXED, "t": TIME, "y": TEXT, "mask": ("batch", "tokens")},
        "UNet2DConditionModel",
        lambda m, x, t, y, mask: m.model(
            x, t * 999, encoder_hidden_states=y, encoder_attention_mask=mask, return_dict=False
        )[0],
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift",
        cross_attention_dim=16,
        attention_head_dim=4,
        **UNET,
    ),
    model(
        "autoencoder_decoder",
        {"z": ("batch", 4, "height", "width")},
        "AutoencoderKL",
        lambda m, z: m.model.decode(z, return_dict=False)[0],
        **AUTOENCODER,
    ),
    model(
        "tiny_decoder",
        {"z": ("batch", 4, "height", "width")},
        "AutoencoderTiny",
        lambda m, z: m.model.decode(z, return_dict=False)[0],
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        upsampling_scaling_factor=2,
    ),
    model(
        "quantised_encoder",
        {"x": FIXED},
        "VQModel",
        lambda m, x: m.model.quant_conv(m.model.encoder(x)),
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=8,
    ),
    model(
        "dit",
        {"x": ("batch", 4, 16, 16), "t": TIME},
        "DiTTransformer2DModel",
        lambda m, x, t: m.model(
            x, (t * 999).long(), class_labels=(t * 0).long(), return_dict=False
        )[0],
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        sample_size=16,
        num_embeds_ada_norm=1000,
        norm_num_groups=4,
    ),
]
