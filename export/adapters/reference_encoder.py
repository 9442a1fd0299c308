"""The frozen text encoder of the reference cascade, for stages of a user's own.

Knows the encoder of `stages`; not who reads its embeddings.
"""

from export.adapters.description import TextEncoderDescription
from export.text_component import CONTEXT_WIDTH, MAX_TOKENS
from stages.data.prompts import TOKENIZER_FILE, text_encoder
from stages.networks.text_encoder import model_folder


def reference_encoder() -> TextEncoderDescription:
    """all-MiniLM-L6-v2, as the reference bundle holds it."""
    return TextEncoderDescription(
        network=text_encoder(),
        tokenizer=(model_folder() / TOKENIZER_FILE).read_bytes(),
        max_tokens=MAX_TOKENS,
        context_width=CONTEXT_WIDTH,
        provenance="all-MiniLM-L6-v2 (Apache-2.0), matrices rounded to 8 bits per row",
    )
