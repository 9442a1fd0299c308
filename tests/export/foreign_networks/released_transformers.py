"""Transformers of released models, tiny and of random weights: DiT, PixArt, Sana and later ones.

Classes of diffusers that `export.passes` was not written for. The library is imported when a
network is built.
"""

# ruff: noqa: E501  a network is one paragraph of its configuration

from dataclasses import replace
from typing import Any

import torch

from tests.export.foreign_networks.diffusers_networks import TIME, model
from tests.export.foreign_networks.network import Network, Shape

LATENT: Shape = ("batch", 4, 16, 16)
TEXT: Shape = ("batch", "tokens", 16)
POOLED: Shape = ("batch", 16)
WORDS: Shape = ("batch", 6, 16)
MASK: Shape = ("batch", 6)
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}


def worded(m: Any, x: Any, t: Any, y: Any) -> Any:
    """Latents and words."""
    return m.model(hidden_states=x, encoder_hidden_states=y, timestep=t * 999, return_dict=False)[0]


def masked(m: Any, x: Any, t: Any, y: Any, mask: Any) -> Any:
    """Latents and words with a mask."""
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        encoder_attention_mask=mask,
        timestep=t * 999,
        return_dict=False,
    )[0]


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


def hunyuan(m: Any, x: Any, t: Any, y: Any, mask: Any, z: Any, mask5: Any) -> Any:
    """Hunyuan-DiT: words of two encoders, rotated places."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed

    places = get_2d_rotary_pos_embed(8, ((0, 0), (8, 8)), (8, 8), output_type="pt")
    return m.model(
        hidden_states=x,
        timestep=t * 999,
        encoder_hidden_states=y,
        text_embedding_mask=mask,
        encoder_hidden_states_t5=z,
        text_embedding_mask_t5=mask5,
        image_rotary_emb=places,
        return_dict=False,
    )[0]


def lumina(m: Any, x: Any, t: Any, y: Any, mask: Any) -> Any:
    """Lumina-Next: rotated places of a grid."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    places = get_2d_rotary_pos_embed_lumina(8, 16, 16)
    return m.model(
        hidden_states=x,
        timestep=t,
        encoder_hidden_states=y,
        encoder_mask=mask,
        image_rotary_emb=places,
        cross_attention_kwargs={},
        return_dict=False,
    )[0]


def lumina2(m: Any, x: Any, t: Any, y: Any) -> Any:
    """Lumina 2: all words of a prompt are read."""
    mask = torch.ones(y.shape[:2], dtype=torch.int64)
    return m.model(
        hidden_states=x,
        timestep=t,
        encoder_hidden_states=y,
        encoder_attention_mask=mask,
        return_dict=False,
    )[0]


def qwen(m: Any, x: Any, t: Any, y: Any) -> Any:
    """Qwen-Image: packed pixels of one picture."""
    mask = torch.ones(y.shape[:2], dtype=torch.int64)
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        encoder_hidden_states_mask=mask,
        timestep=t,
        img_shapes=[[(1, 4, 4)]] * x.shape[0],
        return_dict=False,
    )[0]


def flux2(m: Any, x: Any, t: Any, y: Any) -> Any:
    """Flux 2: places of four axes."""
    side = torch.arange(4.0)
    zero = torch.zeros(4, 4)
    places = torch.stack([zero, side[:, None] + zero, side + zero, zero], -1).reshape(16, 4)
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        timestep=t,
        guidance=t * 4,
        img_ids=places,
        txt_ids=torch.zeros(y.shape[1], 4),
        return_dict=False,
    )[0]


def cogview(m: Any, x: Any, t: Any, y: Any, p: Any) -> Any:
    """CogView 4: three pairs of sizes."""
    return m.model(
        hidden_states=x,
        encoder_hidden_states=y,
        timestep=t * 999,
        original_size=p[:, :2],
        target_size=p[:, 2:4],
        crop_coords=p[:, 4:6],
        return_dict=False,
    )[0]


def prior(m: Any, x: Any, t: Any, p: Any, y: Any, mask: Any) -> Any:
    """Kandinsky 2.2's prior: an embedding of a picture from words."""
    return m.model(
        x,
        t * 999,
        proj_embedding=p,
        encoder_hidden_states=y,
        attention_mask=mask > 0,
        return_dict=False,
    )[0]


def tokens(m: Any, x: Any, y: Any, p: Any, s: Any) -> Any:
    """aMUSEd: pixels as words of a codebook."""
    return m.model(x, y, p, s * 512)


SIZED = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "norm_num_groups": 4}
PIXART = {
    "out_channels": 8,
    "cross_attention_dim": 16,
    "caption_channels": 16,
    "num_embeds_ada_norm": 1000,
}
SANA = {
    "in_channels": 4,
    "out_channels": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": 16,
    "sample_size": 8,
}
SANA_LATENT: Shape = ("batch", 4, 8, 8)
WORDS_MASKED: dict[str, Shape] = {"x": LATENT, "t": TIME, "y": WORDS, "mask": MASK}

TRANSFORMERS: list[Network] = [
    replace(model("dit_classes", {"x": LATENT, "t": TIME, "c": ("batch",)}, "DiTTransformer2DModel", classed,
                  out_channels=8, num_embeds_ada_norm=100, **SIZED, **HEADS), ids=("c",)),
    model("pixart_alpha", {"x": LATENT, "t": TIME, "y": TEXT, "p": ("batch", 3)}, "PixArtTransformer2DModel", pixart_sized,
          use_additional_conditions=True, **SIZED, **{**PIXART, "cross_attention_dim": 24},
          **{**HEADS, "attention_head_dim": 12}),
    model("pixart_sigma", {"x": LATENT, "t": TIME, "y": TEXT}, "PixArtTransformer2DModel", pixart, use_additional_conditions=False,
          interpolation_scale=2, **SIZED, **PIXART, **HEADS),
    model("sana", {"x": SANA_LATENT, "t": TIME, "y": TEXT}, "SanaTransformer2DModel", worded, **SANA, **HEADS),
    model("sana_qk_norm", {"x": SANA_LATENT, "t": TIME, "y": TEXT}, "SanaTransformer2DModel", worded,
          qk_norm="rms_norm_across_heads", interpolation_scale=1, **SANA, **HEADS),
    model("aura_flow", {"x": LATENT, "t": TIME, "y": TEXT}, "AuraFlowTransformer2DModel", worded, sample_size=16,
          in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2,
          joint_attention_dim=16, caption_projection_dim=16, pos_embed_max_size=64),
    model("hunyuan_dit", {**WORDS_MASKED, "y": ("batch", 5, 16), "mask": ("batch", 5), "z": WORDS,
                          "mask5": ("batch", 6)}, "HunyuanDiT2DModel", hunyuan, in_channels=4, patch_size=2,
          sample_size=16, hidden_size=16, cross_attention_dim=16, cross_attention_dim_t5=16, pooled_projection_dim=16,
          text_len=5, text_len_t5=6, use_style_cond_and_image_meta_size=False, **{**HEADS, "num_layers": 2}),
    model("lumina_next", WORDS_MASKED, "LuminaNextDiT2DModel", lumina, sample_size=16, in_channels=4, hidden_size=16,
          num_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=8, cross_attention_dim=16),
    model("lumina_2", {"x": LATENT, "t": TIME, "y": WORDS}, "Lumina2Transformer2DModel", lumina2,
          sample_size=16, in_channels=4, hidden_size=32, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
          num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 6, 6), axes_lens=(32, 16, 16), cap_feat_dim=16),
    model("qwen_image", {"x": ("batch", 16, 16), "t": TIME, "y": WORDS}, "QwenImageTransformer2DModel",
          qwen, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
          joint_attention_dim=16, axes_dims_rope=(4, 6, 6)),
    model("flux_2", {"x": ("batch", 16, 8), "t": TIME, "y": WORDS}, "Flux2Transformer2DModel", flux2,
          in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
          joint_attention_dim=16, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4)),
    model("cogview_4", {"x": LATENT, "t": TIME, "y": WORDS, "p": ("batch", 6)},
          "CogView4Transformer2DModel", cogview, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
          num_attention_heads=2, text_embed_dim=16, time_embed_dim=16, condition_dim=8, pos_embed_max_size=16,
          sample_size=16, rope_axes_dim=(16, 16)),
    model("kandinsky_prior", {"x": POOLED, "t": TIME, "p": POOLED, "y": ("batch", 5, 16), "mask": ("batch", 5)},
          "PriorTransformer", prior, embedding_dim=16, num_embeddings=5, additional_embeddings=4, **HEADS),
    replace(model("uvit", {"x": ("batch", 8, 8), "y": TEXT, "p": POOLED, "s": ("batch", 5)}, "UVit2DModel", tokens,
                  hidden_size=32, cond_embed_dim=16, micro_cond_encode_dim=8, micro_cond_embed_dim=40,
                  encoder_hidden_size=16, vocab_size=24, codebook_size=16, in_channels=16, block_out_channels=16,
                  num_res_blocks=1, block_num_heads=2, num_hidden_layers=1, num_attention_heads=2,
                  intermediate_size=32, sample_size=8), ids=("x",)),
]  # fmt: skip

MASKED: list[Network] = [
    model("pixart_masked", WORDS_MASKED, "PixArtTransformer2DModel", pixart, use_additional_conditions=False, **SIZED,
          **PIXART, **HEADS),
    model("sana_masked", {**WORDS_MASKED, "x": SANA_LATENT}, "SanaTransformer2DModel", masked, **SANA, **HEADS),
]  # fmt: skip
"""Their masks are repeated for every head by a length that torch's exporter cannot follow."""
