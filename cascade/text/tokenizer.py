"""The tokenizer: a prompt to token numbers, as the bundle's tokenizer file says.

The only file that imports `tokenizers`. Knows text and numbers; not embeddings.
"""

import numpy as np
from tokenizers import Tokenizer

from cascade.errors import InvalidRequest, ManifestError
from cascade.types import TokenIds


class PromptTokenizer:
    """One tokenizer, loaded from the bytes of a `tokenizer.json`."""

    def __init__(self, definition: bytes, max_tokens: int) -> None:
        """Load a tokenizer.

        Args:
            definition: the file's bytes.
            max_tokens: longest prompt in tokens, special ones included.

        Raises:
            ManifestError: the bytes are not a tokenizer.
        """
        try:
            self._tokenizer = Tokenizer.from_buffer(definition)
        except Exception as exc:
            raise ManifestError(f"the tokenizer file is not readable: {exc}") from exc
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._max_tokens = max_tokens

    @property
    def largest_number(self) -> int:
        """The largest number in the vocabulary, added tokens included."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def number_of(self, token: str) -> int | None:
        """A token's number; None where the vocabulary does not hold it."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def __call__(self, prompt: str) -> TokenIds:
        """Token numbers of a prompt, `[L]` int64, special tokens included, no padding.

        Raises:
            InvalidRequest: the prompt is too long; it is never cut silently.
            ManifestError: the tokenizer file contradicts itself.
        """
        try:
            ids = self._tokenizer.encode(prompt).ids
        except Exception as exc:
            raise ManifestError(f"the tokenizer of this bundle failed: {exc}") from exc
        if len(ids) > self._max_tokens:
            raise InvalidRequest(
                f"prompt: {len(ids)} tokens, at most {self._max_tokens} are accepted: shorten it",
                field="prompt",
            )
        return np.array(ids, np.int64)
