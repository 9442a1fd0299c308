"""From a prompt to its embeddings with the frozen encoder in PyTorch: for training and parity.

Knows the tokenizer file of the pre-trained model and the torch encoder; not pictures.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from tokenizers import Tokenizer

from cascade.types import Array
from stages.data.dataset import Dataset
from stages.networks.text_encoder import TextEncoder, load_text_encoder, model_folder
from stages.networks.word_table import WordTable, alone, packed

TOKENIZER_FILE = "tokenizer.json"


@lru_cache(maxsize=1)
def text_encoder() -> TextEncoder:
    """The frozen encoder, loaded once."""
    return load_text_encoder()


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The pre-trained model's tokenizer without padding and truncation."""
    loaded = Tokenizer.from_file(str(model_folder() / TOKENIZER_FILE))
    loaded.no_padding()
    loaded.no_truncation()
    return loaded


def encode_prompt(prompt: str) -> Array:
    """Embeddings of a prompt's tokens, `[tokens, 384]` float32, special tokens included."""
    ids = torch.tensor([tokenizer().encode(prompt).ids])
    with torch.no_grad():
        embeddings: Array = text_encoder()(ids, torch.ones(ids.shape))[0].numpy()
    return embeddings


def word_rows(prompt: str, table: WordTable) -> Array:
    """A prompt's tokens in a word table, `[tokens, width]` float32, special tokens included."""
    ids = torch.tensor([tokenizer().encode(prompt).ids])
    rows: Array = table(ids, torch.ones(ids.shape))[0].numpy()
    return rows


def with_words(data: Dataset, table: WordTable) -> Dataset:
    """The data set with every caption's rows in place of its embeddings."""
    return replace(data, embeddings=tuple(word_rows(said, table) for said in data.captions))


def make_table(width: int) -> WordTable:
    """The table of the pre-trained encoder's vocabulary; takes a minute or two of one core."""
    pieces = tokenizer()
    rows = alone(text_encoder())
    words = [(pieces.id_to_token(number) or "").isalpha() for number in range(len(rows))]
    return WordTable(packed(rows, torch.tensor(words), width))
