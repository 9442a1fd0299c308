"""Any T5 encoder from a transformers folder as a text encoder of ours.

Knows T5 folders; not who reads the embeddings.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel
from export.adapters.loaded_network import load_network
from export.adapters.local_folder import expect, model_folder, read_json
from export.adapters.offline import offline_import
from export.adapters.t5_tokenizer import FoundTokenizer, check_padding_side, read_tokenizer
from export.description import TextEncoderDescription

MODEL_TYPES = ("t5", "mt5", "umt5")


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
    encoder = load_network(
        loader, encoder_folder, "model", dtype=torch.float32, attn_implementation="eager"
    )
    width, layers = int(encoder.config.d_model), encoder.config.num_layers
    found = read_tokenizer(tokenizer_folder, lower=lower)
    if pad:
        check_padding_side(tokenizer_folder)
    check_rows(found, int(encoder.get_input_embeddings().num_embeddings))
    return TextEncoderDescription(
        network=T5Network(encoder).eval().requires_grad_(requires_grad=False),
        tokenizer=found.definition,
        max_tokens=max_tokens,
        context_width=width,
        pad_token=found.pad_token if pad else None,
        provenance=f"{kind} encoder of {layers} layers, {width} wide",
    )


def check_rows(found: FoundTokenizer, rows: int) -> None:
    """Refuse a tokenizer with numbers for which the encoder has no embedding.

    Raises:
        UnsupportedModel: naming the file and the field that decide the numbers.
    """
    if found.largest >= rows:
        file, _, field = found.source.rpartition(":")
        raise UnsupportedModel(
            f"{file}: {field} leads to token number {found.largest}, and the encoder embeds "
            f"{rows}: a prompt with that token would fail; take the tokens out or enlarge the "
            "embedding",
            field=found.source,
        )
