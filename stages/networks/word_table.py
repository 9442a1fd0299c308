"""A text encoder that no two engines compute differently: a row of small integers per word piece.

Rows are read and divided by a power of two; nothing is added. What a word means comes from
all-MiniLM-L6-v2, which is asked about every piece of its vocabulary alone; order and company of
words are left to the stages. Knows token numbers and rows; not the tokenizer or captions.

References:
    Wang et al. 2020, MiniLM (arXiv 2002.10957), for the encoder that the rows come from.
"""

import torch
from torch import Tensor, nn

from stages.networks.pixel_network import CONTEXT_LARGEST, CONTEXT_UNIT
from stages.networks.text_encoder import TextEncoder

FIRST, LAST = 101, 102
"""Tokens that the pre-trained encoder expects around every text."""
WHITENING = 0.5
"""Power of each direction's deviation that rows are divided by: rare directions count more."""
RMS = 34.0
"""Root mean square of a row: few entries then reach the largest."""
TOGETHER = 512


class WordTable(nn.Module):
    """Token numbers to rows of multiples of 1 / `CONTEXT_UNIT`."""

    def __init__(self, rows: Tensor) -> None:
        """Wrap a table.

        Args:
            rows: `[vocabulary, width]` int8.
        """
        super().__init__()
        self.register_buffer("rows", rows)
        self.rows: Tensor

    @property
    def width(self) -> int:
        """Of a row."""
        return int(self.rows.shape[1])

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Rows of tokens.

        Args:
            token_ids: `[B, L]` int64.
            token_mask: `[B, L]` float32, 1 for real tokens, 0 for padding.

        Returns:
            `[B, L, width]` float32, zeros for padding; float16 holds every value.
        """
        found: Tensor = self.rows[token_ids].float() / CONTEXT_UNIT
        return found * token_mask[:, :, None]


@torch.no_grad()
def alone(encoder: TextEncoder) -> Tensor:
    """What the pre-trained encoder says of every piece of its vocabulary alone, `[V, 384]`."""
    found = []
    for pieces in torch.arange(len(encoder.words.weight)).split(TOGETHER):
        ends = (torch.full_like(pieces, token) for token in (FIRST, LAST))
        ids = torch.stack([next(ends), pieces, next(ends)], 1)
        found.append(encoder(ids, torch.ones(ids.shape))[:, 1])
    return torch.cat(found)


def packed(embeddings: Tensor, words: Tensor, width: int) -> Tensor:
    """Embeddings in their main directions as small integers.

    Args:
        embeddings: `[V, D]` float32.
        words: `[V]` bool, the rows that directions are those of.
        width: how many directions are kept, at most D.

    Returns:
        `[V, width]` int8.
    """
    centred = (embeddings - embeddings[words].mean(0)).double()
    _, sizes, directions = torch.linalg.svd(centred[words], full_matrices=False)
    deviations = (sizes[:width] / int(words.sum()) ** 0.5).clamp(min=1e-9)
    rows = centred @ directions[:width].T / deviations**WHITENING
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9) * (RMS * width**0.5)
    return rows.round().clamp(-CONTEXT_LARGEST, CONTEXT_LARGEST).to(torch.int8)
