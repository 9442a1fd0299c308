"""A CLIP text encoder from a transformers folder as a text encoder of ours.

Knows CLIP folders; not who reads the embeddings.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel
from export.adapters.loaded_network import load_network
from export.adapters.local_folder import expect, model_folder, read_json
from export.adapters.offline import offline_import
from export.adapters.t5_encoder import check_rows
from export.adapters.t5_tokenizer import (
    NOTES,
    OWN,
    UNBOUNDED,
    FoundTokenizer,
    check_padding_side,
    find_padding,
    no_padding,
    prepared,
)
from export.description import TextEncoderDescription

VOCABULARY = ("vocab.json", "merges.txt")
"""What a folder without `tokenizer.json` must hold."""
PAD = "<|endoftext|>"
"""CLIP's padding token where a folder names none."""


POOLED = "pooled"
"""Name of the vector that stands for a whole prompt."""
HIGHEST = 2
"""As `eos_token_id` of an old file: the prompt ends at its highest token."""


class ClipNetwork(nn.Module):
    """The encoder behind our names: tokens in, embeddings of the last layer out."""

    def __init__(self, encoder: nn.Module, end: int | None = None) -> None:
        """Wrap an encoder.

        Args:
            encoder: a `CLIPTextModel`'s own.
            end: its `eos_token_id`, for the pooled output beside embeddings without the last norm;
                None for embeddings with it.
        """
        super().__init__()
        self.encoder: Any = encoder
        self.end = end

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Embeddings `[B, L, D]`; every token sees those before it, padding among them.

        With an end, before the last norm; and after it that of the first such token, `[B, D]`.
        """
        # The pipelines give the encoder no mask: padding is part of the context. Times 1 for every
        # mask there is: an input that changes nothing is taken out of a graph by some engines.
        ones = 1.0 + torch.relu(token_mask - 1.0)
        hidden = self.encoder.embeddings(input_ids=token_ids) * ones[:, :, None]
        length = token_ids.shape[1]
        lowest = torch.finfo(torch.float32).min
        ahead = torch.full((length, length), lowest).triu(1)[None, None]
        seen: Tensor = self.encoder.encoder(inputs_embeds=hidden, attention_mask=ahead)[0]
        result: Tensor = self.encoder.final_layer_norm(seen)
        if self.end is None:
            return result
        end = token_ids.amax(1, keepdim=True) if self.end == HIGHEST else self.end
        ends = (token_ids == end).to(torch.float32)
        first = ends * (ends.cumsum(1) < 1.5).to(torch.float32)
        return seen, (result * first[:, :, None]).sum(1)


def clip_norm(network: Any) -> Any:
    """The last norm of a `ClipNetwork`, for stages that read a context without it."""
    return network.encoder.final_layer_norm


def clip_text_encoder(
    encoder_folder: Path, tokenizer_folder: Path, *, pools: bool = False
) -> TextEncoderDescription:
    """A CLIP text encoder and its tokenizer, fed as the pipelines feed it.

    Args:
        encoder_folder: holds `config.json` and the weights.
        tokenizer_folder: holds `tokenizer.json`, or `vocab.json` and `merges.txt`.
        pools: whether it makes the vector `pooled` beside a context before the encoder's last norm.

    Raises:
        UnsupportedModel: the folder is not that of a CLIP text encoder, or holds no safetensors.
        MissingExtra: transformers is not installed.
    """
    path = model_folder(encoder_folder, "text_encoder") / "config.json"
    config = read_json(path)
    expect(path, config, "model_type", ("clip_text_model",))
    expect(path, config, "use_attention_mask", (None, False))
    encoder = load_network(
        offline_import("transformers").CLIPTextModel,
        encoder_folder,
        "model",
        dtype=torch.float32,
        attn_implementation="eager",
    )
    length = longest(tokenizer_folder)
    if length > encoder.config.max_position_embeddings:
        raise UnsupportedModel(
            f"{tokenizer_folder / NOTES[0]}: model_max_length is {length}; supported: at most the "
            f"encoder's {encoder.config.max_position_embeddings} positions",
            field=f"{tokenizer_folder / NOTES[0]}:model_max_length",
        )
    found = read_clip_tokenizer(tokenizer_folder)
    check_rows(found, int(encoder.get_input_embeddings().num_embeddings))
    width, layers = int(encoder.config.hidden_size), encoder.config.num_hidden_layers
    return TextEncoderDescription(
        network=ClipNetwork(
            getattr(encoder, "text_model", encoder),
            int(encoder.config.eos_token_id) if pools else None,
        )
        .eval()
        .requires_grad_(requires_grad=False),
        tokenizer=found.definition,
        max_tokens=length,
        context_width=width,
        pad_token=found.pad_token,
        vectors={POOLED: width} if pools else {},
        provenance=f"CLIP text encoder of {layers} layers, {width} wide",
    )


def longest(folder: Path) -> int:
    """The length that the pipelines pad every prompt to.

    Raises:
        UnsupportedModel: the folder does not say it.
    """
    path = model_folder(folder, "tokenizer") / NOTES[0]
    found = read_json(path).get("model_max_length")
    if not isinstance(found, int) or isinstance(found, bool) or not 2 <= found <= UNBOUNDED:
        raise UnsupportedModel(
            f"{path}: model_max_length is {str(found)[:40]}; supported: a whole number from 2",
            field=f"{path}:model_max_length",
        )
    return found


def read_clip_tokenizer(folder: Path) -> FoundTokenizer:
    """The tokenizer of a folder as the pipelines load it, with every token that its notes add.

    A padding token of the notes that `tokenizer.json` does not list is a token of its own to
    transformers: where a prompt holds its letters, it is split there.

    Raises:
        UnsupportedModel: there is none, it cannot be read, it pads on the left, or it has no
            padding token.
    """
    check_padding_side(folder)
    own = folder / OWN
    listed = (read_json(own).get("added_tokens") or []) if own.is_file() else []
    original = made_by_transformers(folder)
    made = json.loads(original)
    definition = prepared(made, original, lower=False)
    padding = find_padding(folder, definition, PAD)
    if padding.name not in {*made["model"]["vocab"], *(token["content"] for token in listed)}:
        raise no_padding(folder, padding.name)
    source = f"{own}:model" if own.is_file() else f"{folder / VOCABULARY[0]}:vocab"
    return FoundTokenizer(definition, padding.number, padding.largest, source)


def made_by_transformers(folder: Path) -> bytes:
    """What transformers makes of a folder's `tokenizer.json`, or of its vocabulary and merges.

    Raises:
        UnsupportedModel: a file is missing, or they make no tokenizer.
    """
    path = folder / OWN
    if not path.is_file():
        for name in VOCABULARY:
            if not (folder / name).is_file():
                raise UnsupportedModel(
                    f"{folder / name}: this file is missing, and so is {OWN}",
                    field=str(folder / name),
                )
        path = folder / VOCABULARY[0]
    try:
        tokenizer = offline_import("transformers").CLIPTokenizer.from_pretrained(
            str(folder), local_files_only=True
        )
    except Exception as exc:
        raise UnsupportedModel(
            f"{path}: transformers cannot read it: {exc}", field=str(path)
        ) from exc
    return bytes(tokenizer.backend_tokenizer.to_str(), "utf-8")
