"""Autoencoders of released models, tiny and of random weights: encoders and decoders.

Classes of diffusers that `export.passes` was not written for. The library is imported when a
network is built.
"""

# ruff: noqa: E501  a network is one paragraph of its configuration

from typing import Any

from tests.export.foreign_networks.diffusers_networks import AUTOENCODER, model
from tests.export.foreign_networks.network import Network, Shape

PICTURE: Shape = ("batch", 3, 32, 32)
LATENT: Shape = ("batch", 4, 16, 16)


def moments(m: Any, x: Any) -> Any:
    """Mean and logarithm of the variance of a latent."""
    return m.model.encode(x, return_dict=False)[0].parameters


def latent(m: Any, x: Any) -> Any:
    """A latent without chance."""
    return m.model.encode(x, return_dict=False)[0]


def picture(m: Any, z: Any) -> Any:
    """A latent's picture."""
    return m.model.decode(z, return_dict=False)[0]


def both(name: str, kind: str, z: Shape, encode: Any = moments, **config: Any) -> list[Network]:
    """The two halves of an autoencoder."""
    return [
        model(f"{name}_encoder", {"x": PICTURE}, kind, encode, **config),
        model(f"{name}_decoder", {"z": z}, kind, picture, **config),
    ]


TINY = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "upsampling_scaling_factor": 2}  # fmt: skip
DC = {"latent_channels": 4, "attention_head_dim": 4, "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
      "decoder_block_types": ("ResBlock", "EfficientViTBlock"), "encoder_block_out_channels": (8, 16),
      "decoder_block_out_channels": (8, 16), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}  # fmt: skip

AUTOENCODERS: list[Network] = [
    *both("kl", "AutoencoderKL", LATENT, **AUTOENCODER),
    *both("asymmetric", "AsymmetricAutoencoderKL", LATENT, down_block_types=("DownEncoderBlock2D",) * 2,
          down_block_out_channels=(8, 16), up_block_types=("UpDecoderBlock2D",) * 2, up_block_out_channels=(8, 24),
          latent_channels=4, norm_num_groups=4),
    *both("tiny", "AutoencoderTiny", LATENT, latent, **TINY),
    model("dc_encoder", {"x": PICTURE}, "AutoencoderDC", latent, encoder_qkv_multiscales=((), ()),
          decoder_qkv_multiscales=((), ()), **DC),
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
