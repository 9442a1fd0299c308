"""Classes of transformers at tiny sizes with random weights: text encoders, picture encoders.

The library is imported when a network is built, not when the list is read.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.export.foreign_networks.network import Network, Shape

IDS: Shape = ("batch", 9)
MASK: Shape = ("batch", 9)
FREE_IDS: Shape = ("batch", "tokens")
PICTURE: Shape = ("batch", 3, 32, 32)
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
WORDS = {"vocab_size": 40, "max_position_embeddings": 40, **SMALL}


class Called(nn.Module):
    """A model of transformers with tensors in by name and a tensor out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def model(
    name: str, inputs: dict[str, Shape], kind: str, call: Callable[..., Any], **config: Any
) -> Network:
    """A model by its class, the arguments of its configuration, and how it is called."""

    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, kind)
        return type(name, (Called,), {"forward": call})(made(made.config_class(**config)))

    ids = tuple(n for n in inputs if n == "ids")
    return Network(name=name, inputs=inputs, build=build, ids=ids)


def words(m: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A text encoder."""
    return m.model(input_ids=ids, attention_mask=mask).last_hidden_state


def picture(m: Any, x: torch.Tensor) -> torch.Tensor:
    """A picture encoder."""
    return m.model(x).last_hidden_state


TEXT = {"ids": IDS, "mask": MASK}
T5 = {"vocab_size": 40, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}

NETWORKS: list[Network] = [
    model("t5_free", {"ids": FREE_IDS, "mask": FREE_IDS}, "T5EncoderModel", words, **T5),
    model(
        "t5_gated",
        TEXT,
        "T5EncoderModel",
        words,
        feed_forward_proj="gated-gelu",
        **{**T5, "num_layers": 1},
    ),
    model("clip_text", TEXT, "CLIPTextModel", words, **WORDS),
    model(
        "llama",
        {"ids": IDS},
        "LlamaModel",
        lambda m, ids: m.model(ids, use_cache=False).last_hidden_state,
        num_key_value_heads=2,
        **WORDS,
    ),
    model(
        "deberta_v2",
        TEXT,
        "DebertaV2Model",
        words,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        **WORDS,
    ),
    model("vit", {"x": PICTURE}, "ViTModel", picture, image_size=32, patch_size=8, **SMALL),
    model(
        "swin",
        {"x": PICTURE},
        "SwinModel",
        picture,
        image_size=32,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
    ),
    model(
        "mobilevit",
        {"x": PICTURE},
        "MobileViTModel",
        picture,
        image_size=32,
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
        num_attention_heads=2,
    ),
    model(
        "whisper_encoder",
        {"x": ("batch", 8, 24)},
        "WhisperModel",
        lambda m, x: m.model.encoder(x).last_hidden_state,
        vocab_size=40,
        num_mel_bins=8,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=12,
        max_target_positions=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    ),
]
