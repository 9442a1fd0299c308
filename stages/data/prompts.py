"""From a prompt to its embeddings with the frozen encoder in PyTorch: for training and parity.

Knows the tokenizer file of the pre-trained model and the torch encoder; not pictures.
"""

from functools import lru_cache

import torch
from tokenizers import Tokenizer

from cascade.types import Array
from stages.networks.text_encoder import TextEncoder, load_text_encoder, model_folder

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
