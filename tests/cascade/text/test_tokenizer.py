"""The tokenizer: numbers as the file says, never cut, never padded."""

import json

import numpy as np
import pytest

from cascade.errors import InvalidRequest, ManifestError
from cascade.text.tokenizer import PromptTokenizer
from tests.support.tiny_bundle import MAX_TOKENS, WORDS, tokenizer_json


def test_known_words_get_their_numbers() -> None:
    """Words and punctuation are looked up in lower case; what is unknown is number 0."""
    ids = PromptTokenizer(tokenizer_json(), MAX_TOKENS)("A RED apple, zebra style")
    assert ids.dtype == np.int64
    assert [WORDS[i] for i in ids] == ["a", "red", "apple", ",", "[UNK]", "style"]


@pytest.mark.parametrize("count", [1, MAX_TOKENS])
def test_up_to_the_limit_nothing_is_cut(count: int) -> None:
    """A prompt of exactly the most tokens is whole."""
    assert len(PromptTokenizer(tokenizer_json(), MAX_TOKENS)("cat " * count)) == count


def test_one_token_more_is_refused() -> None:
    """A prompt that is too long is refused with both numbers, not cut."""
    with pytest.raises(InvalidRequest, match=f"{MAX_TOKENS + 1} tokens, at most {MAX_TOKENS}") as e:
        PromptTokenizer(tokenizer_json(), MAX_TOKENS)("cat " * (MAX_TOKENS + 1))
    assert e.value.field == "prompt"


def test_padding_and_cutting_in_the_file_are_switched_off() -> None:
    """A tokenizer file made for fixed lengths gives the prompt's own tokens all the same."""
    definition = json.loads(tokenizer_json())
    definition["truncation"] = {
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    definition["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]",
    }  # fmt: skip
    ids = PromptTokenizer(json.dumps(definition).encode(), MAX_TOKENS)("a red green apple")
    assert ids.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("definition", [b"", b"{}", b"[]", b"\xff\x00", b"null", b'{"model": 1}'])
def test_what_is_no_tokenizer_is_a_broken_bundle(definition: bytes) -> None:
    """Bytes that are no tokenizer are a ManifestError."""
    with pytest.raises(ManifestError, match="tokenizer file is not readable"):
        PromptTokenizer(definition, MAX_TOKENS)


def test_a_tokenizer_that_contradicts_itself_is_a_broken_bundle() -> None:
    """A vocabulary without its own unknown word fails at the first unknown word, as ours."""
    definition = b'{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}}'
    with pytest.raises(ManifestError, match="tokenizer of this bundle failed"):
        PromptTokenizer(definition, MAX_TOKENS)("zebra")
