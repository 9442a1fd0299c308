"""Any T5 encoder from a transformers folder as a text encoder of ours.

The folder's fast tokenizer, or the one that transformers makes of its sentencepiece model, becomes
`tokenizer.json`, so that the runtime needs neither library. Knows T5 folders; not who reads the
embeddings.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel
from export.foreign.description import TextEncoderDescription
from export.foreign.local_folder import expect, model_folder, read_json, weights_variant
from export.foreign.offline import offline_import

MODEL_TYPES = ("t5", "mt5", "umt5")
LOWER_AND_STRIP = (
    {"type": "Lowercase"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
)
"""What DeepFloyd IF's pipelines do to a prompt without `clean_caption`."""


class T5Network(nn.Module):
    """The encoder behind our names: tokens and a float mask in, embeddings out."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Embeddings `[B, L, D]`; padding is seen by nobody but still gets a row."""
        # Four axes are taken as they are: no branch on the mask's values enters the graph.
        hidden = (1.0 - token_mask[:, None, None, :]) * torch.finfo(torch.float32).min
        result: Tensor = self.encoder(input_ids=token_ids, attention_mask=hidden)[0]
        return result


def t5_text_encoder(
    encoder_folder: Path,
    tokenizer_folder: Path,
    *,
    max_tokens: int,
    pad: bool,
    lower: bool,
) -> TextEncoderDescription:
    """A T5 encoder and its tokenizer.

    Args:
        encoder_folder: holds `config.json` and the weights.
        tokenizer_folder: holds `tokenizer.json` or `spiece.model`; may be the same.
        max_tokens: longest prompt, special tokens included.
        pad: whether the stages were trained to see padding.
        lower: whether prompts are stripped and put in lower case first.

    Raises:
        UnsupportedModel: the folder is not that of a T5 encoder, or holds no safetensors.
        MissingExtra: transformers is not installed.
    """
    config = read_json(model_folder(encoder_folder, "text_encoder") / "config.json")
    kind = expect(encoder_folder / "config.json", config, "model_type", MODEL_TYPES)
    transformers = offline_import("transformers")
    loader = {
        "t5": transformers.T5EncoderModel,
        "mt5": transformers.MT5EncoderModel,
        "umt5": transformers.UMT5EncoderModel,
    }[kind]
    encoder = loader.from_pretrained(
        str(encoder_folder),
        variant=weights_variant(encoder_folder, "model"),
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        attn_implementation="eager",
    )
    definition, pad_token = tokenizer_json(tokenizer_folder, lower=lower)
    return TextEncoderDescription(
        network=T5Network(encoder).eval().requires_grad_(requires_grad=False),
        tokenizer=definition,
        max_tokens=max_tokens,
        context_width=int(config["d_model"]),
        pad_token=pad_token if pad else None,
        provenance=f"{kind} encoder of {config['num_layers']} layers, {config['d_model']} wide",
    )


def tokenizer_json(folder: Path, *, lower: bool) -> tuple[bytes, int]:
    """A folder's tokenizer as the bytes of a `tokenizer.json`, and its padding token.

    Raises:
        UnsupportedModel: there is none, or it has no padding token.
    """
    names = ("tokenizer.json", "spiece.model", "sentencepiece.model")
    if not any((model_folder(folder, "tokenizer") / name).is_file() for name in names):
        raise UnsupportedModel(
            f"{folder}: neither {' nor '.join(names)} is there", field=str(folder)
        )
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            read_json(folder / name)
    tokenizer = offline_import("transformers").T5Tokenizer.from_pretrained(
        str(folder), local_files_only=True
    )
    if tokenizer.pad_token_id is None:
        raise UnsupportedModel(f"{folder}: the tokenizer has no pad_token", field=str(folder))
    definition: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    definition["padding"] = definition["truncation"] = None
    if lower:
        own = definition.get("normalizer")
        steps = [*LOWER_AND_STRIP, *([] if own is None else [own])]
        definition["normalizer"] = {"type": "Sequence", "normalizers": steps}
    text = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8"), int(tokenizer.pad_token_id)
