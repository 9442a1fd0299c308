"""Autoencoders of released models, tiny and of random weights: every class for pictures.

Classes of diffusers that `export.passes` was not written for. The library is imported when a
network is built.
"""

# ruff: noqa: E501  a network is one paragraph of its configuration

from typing import Any

from tests.export.foreign_networks.diffusers_networks import AUTOENCODER, model
from tests.export.foreign_networks.network import Network, Shape

PICTURE: Shape = ("batch", 3, 32, 32)
LATENT: Shape = ("batch", 4, 16, 16)
DEEP: Shape = ("batch", 4, 8, 8)


def moments(m: Any, x: Any) -> Any:
    """Mean and logarithm of the variance of a latent."""
    return m.model.encode(x, return_dict=False)[0].parameters


def latent(m: Any, x: Any) -> Any:
    """A latent without chance."""
    return m.model.encode(x, return_dict=False)[0]


def picture(m: Any, z: Any) -> Any:
    """A latent's picture."""
    return m.model.decode(z, return_dict=False)[0]


def frame_moments(m: Any, x: Any) -> Any:
    """Those of a video of one frame."""
    return moments(m, x[:, :, None])[:, :, 0]


def frame(m: Any, z: Any) -> Any:
    """A video's only frame."""
    return picture(m, z[:, :, None])[:, :, 0]


def both(name: str, kind: str, z: Shape, encode: Any = moments, **config: Any) -> list[Network]:
    """The two halves of an autoencoder."""
    return [
        model(f"{name}_encoder", {"x": PICTURE}, kind, encode, **config),
        model(f"{name}_decoder", {"z": z}, kind, picture, **config),
    ]


TINY = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "upsampling_scaling_factor": 2}  # fmt: skip
VQ = {"block_out_channels": (8, 16), "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * 2,
      "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": 4, "num_vq_embeddings": 8}  # fmt: skip
DC = {"latent_channels": 4, "attention_head_dim": 4, "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
      "decoder_block_types": ("ResBlock", "EfficientViTBlock"), "encoder_block_out_channels": (8, 16),
      "decoder_block_out_channels": (8, 16), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}  # fmt: skip

QWEN = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [False],
        "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}  # fmt: skip
CONSISTENCY = {"encoder_block_out_channels": (8, 16), "encoder_down_block_types": ("DownEncoderBlock2D",) * 2,
               "encoder_layers_per_block": 1, "encoder_norm_num_groups": 4, "decoder_block_out_channels": (8, 16),
               "decoder_down_block_types": ("ResnetDownsampleBlock2D",) * 2, "decoder_layers_per_block": 1,
               "decoder_norm_num_groups": 4, "decoder_up_block_types": ("ResnetUpsampleBlock2D",) * 2}  # fmt: skip

AUTOENCODERS: list[Network] = [
    *both("kl", "AutoencoderKL", LATENT, **AUTOENCODER),
    *both("asymmetric", "AsymmetricAutoencoderKL", LATENT, down_block_types=("DownEncoderBlock2D",) * 2,
          down_block_out_channels=(8, 16), up_block_types=("UpDecoderBlock2D",) * 2, up_block_out_channels=(8, 24),
          latent_channels=4, norm_num_groups=4),
    *both("tiny", "AutoencoderTiny", LATENT, latent, **TINY),
    *both("dc", "AutoencoderDC", LATENT, latent, encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), **DC),
    *both("dc_multiscale", "AutoencoderDC", LATENT, latent, encoder_qkv_multiscales=((), (5,)),
          decoder_qkv_multiscales=((), (5,)), upsample_block_type="interpolate", downsample_block_type="Conv", **DC),
    *both("vq", "VQModel", LATENT, latent, **VQ),
    *both("movq", "VQModel", LATENT, latent, norm_type="spatial", vq_embed_dim=4,
          **{**VQ, "block_out_channels": (32, 32), "norm_num_groups": 32, "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
             "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")}),
    *both("flux2", "AutoencoderKLFlux2", LATENT, **AUTOENCODER),
    *both("hunyuan_image", "AutoencoderKLHunyuanImage", DEEP, in_channels=3, out_channels=3, latent_channels=4,
          block_out_channels=(32, 64, 64), layers_per_block=1, spatial_compression_ratio=4, sample_size=32),
    model("qwen_image_encoder", {"x": PICTURE}, "AutoencoderKLQwenImage", frame_moments, **QWEN),
    model("qwen_image_decoder", {"z": LATENT}, "AutoencoderKLQwenImage", frame, **QWEN),
    model("consistency_encoder", {"x": PICTURE}, "ConsistencyDecoderVAE", moments, **CONSISTENCY),
    model("consistency_decoder", {"x": ("batch", 7, 32, 32), "t": ("batch",)}, "ConsistencyDecoderVAE",
          lambda m, x, t: m.model.decoder_unet(x, (t * 999).long(), return_dict=False)[0], **CONSISTENCY),
    model("temporal_encoder", {"x": PICTURE}, "AutoencoderKLTemporalDecoder", moments, latent_channels=4,
          down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 64)),
    model("temporal_decoder", {"z": ("batch", 3, 4, 8, 8)}, "AutoencoderKLTemporalDecoder",
          lambda m, z: m.model.decode(z.flatten(0, 1), num_frames=3, return_dict=False)[0].unflatten(0, (-1, 3)),
          latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 64)),
]  # fmt: skip

BY_SHAPE: list[Network] = [
    model("asymmetric_masked_decoder", {"z": ("batch", 4, 4, 4), "x": PICTURE, "mask": ("batch", 1, 32, 32)},
          "AsymmetricAutoencoderKL",
          lambda m, z, x, mask: m.model.decode(z, image=x, mask=mask, return_dict=False)[0],
          down_block_types=("DownEncoderBlock2D",) * 4, down_block_out_channels=(8, 8, 8, 8),
          up_block_types=("UpDecoderBlock2D",) * 4, up_block_out_channels=(8, 16, 32, 32), latent_channels=4,
          norm_num_groups=4),
]  # fmt: skip
"""Its maps are found by their shapes as text, and the batch of a traced one is a name."""
