"""The tokenizer of a transformers T5 folder as the bytes of a `tokenizer.json`.

A folder's own `tokenizer.json` is taken as it lies there. transformers itself would take only its
vocabulary and build normalizer, pre-tokenizer and post-processor anew (5.23: a Lowercase normalizer
is gone). Only where there is none does transformers make one, of `spiece.model`. Knows tokenizers'
files; not encoders.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError, UnsupportedModel
from cascade.text.tokenizer import PromptTokenizer
from export.adapters.local_folder import expect, model_folder, read_json
from export.adapters.offline import offline_import

LOWER_AND_STRIP = (
    {"type": "Lowercase"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
)
"""What DeepFloyd IF's pipelines do to a prompt without `clean_caption`."""

OWN, SENTENCEPIECE = "tokenizer.json", "spiece.model"
NOTES = ("tokenizer_config.json", "special_tokens_map.json")
PAD = "<pad>"
"""T5's padding token where a folder names none."""

UNBOUNDED = 1 << 30
"""Tokens; here nothing is too long."""


@dataclass(frozen=True, slots=True)
class FoundTokenizer:
    """A tokenizer and what a text encoder must know of it."""

    definition: bytes
    """A `tokenizer.json`."""
    pad_token: int
    largest: int
    """The largest number that it gives."""
    source: str
    """The file that decides the numbers, and the field there."""


def read_tokenizer(folder: Path, *, lower: bool) -> FoundTokenizer:
    """The tokenizer of a folder.

    Args:
        folder: holds `tokenizer.json` or `spiece.model`.
        lower: whether prompts are stripped and put in lower case before anything else.

    Raises:
        UnsupportedModel: there is none, it cannot be read, or it has no padding token.
    """
    own = model_folder(folder, "tokenizer") / OWN
    if own.is_file():
        given, original = read_json(own), own.read_bytes()
    else:
        original = made_of_sentencepiece(folder)
        given = json.loads(original)
    definition = prepared(given, original, lower=lower)
    padding = find_padding(folder, definition, PAD)
    source = f"{own}:model" if own.is_file() else f"{folder / NOTES[0]}:extra_ids"
    if own.is_file() and padding.largest in [
        token["id"] for token in given.get("added_tokens") or []
    ]:
        source = f"{own}:added_tokens"
    return FoundTokenizer(definition, padding.number, padding.largest, source)


@dataclass(frozen=True, slots=True)
class FoundPadding:
    """What pads a folder's texts."""

    name: str
    number: int
    largest: int
    """The largest number that the tokenizer gives."""


def find_padding(folder: Path, definition: bytes, otherwise: str) -> FoundPadding:
    """The token that a folder's texts are padded with.

    Args:
        folder: the tokenizer's.
        definition: a `tokenizer.json`.
        otherwise: the token that pads where the folder's notes name none.

    Raises:
        UnsupportedModel: the definition cannot be read, or it has no such token.
    """
    notes = [read_json(path) for path in notes_of(folder)]
    own = folder / OWN
    try:
        tokenizer = PromptTokenizer(definition, UNBOUNDED)
        largest = max(tokenizer.largest_number, *tokenizer("a"))
    except CascadeError as exc:
        raise UnsupportedModel(f"{own}: {exc}", field=str(own)) from exc
    names = [name_of(note["pad_token"]) for note in notes if note.get("pad_token")]
    name = names[0] if names else otherwise
    number = tokenizer.number_of(name)
    if number is None:
        raise no_padding(folder, name)
    return FoundPadding(name, number, int(largest))


def no_padding(folder: Path, name: str) -> UnsupportedModel:
    """The refusal of a padding token that a folder's tokenizer does not have."""
    return UnsupportedModel(
        f"{folder}: the tokenizer has no token {name} to pad with: name its pad_token in "
        f"{NOTES[0]}",
        field=f"{folder / NOTES[0]}:pad_token",
    )


def notes_of(folder: Path) -> list[Path]:
    """The files beside a tokenizer that say more about it, as far as they are there."""
    return [folder / name for name in NOTES if (folder / name).is_file()]


def check_padding_side(folder: Path) -> None:
    """Refuse a tokenizer that fills prompts from the left, where ours are filled from the right.

    Raises:
        UnsupportedModel: naming the file.
    """
    for path in notes_of(folder):
        expect(path, read_json(path), "padding_side", (None, "right"))


def name_of(token: Any) -> str:
    """A token as the notes write it: its text, or an object that holds it."""
    return str(token["content"] if isinstance(token, dict) and "content" in token else token)


def made_of_sentencepiece(folder: Path) -> bytes:
    """What transformers makes of a sentencepiece model.

    Raises:
        UnsupportedModel: the model is not there or not one. Without it transformers would make a
            tokenizer of no words.
    """
    path = folder / SENTENCEPIECE
    if not path.is_file():
        raise UnsupportedModel(
            f"{folder}: neither {OWN} nor {SENTENCEPIECE} is there", field=str(folder)
        )
    try:
        tokenizer = offline_import("transformers").T5Tokenizer.from_pretrained(
            str(folder), local_files_only=True
        )
    except Exception as exc:
        raise UnsupportedModel(
            f"{path}: transformers cannot read it: {exc}", field=str(path)
        ) from exc
    return bytes(tokenizer.backend_tokenizer.to_str(), "utf-8")


def prepared(given: dict[str, Any], original: bytes, *, lower: bool) -> bytes:
    """A definition without padding and truncation, which are the text encoder's, cleaning on top.

    Args:
        given: the definition, read.
        original: its bytes, returned where nothing is to change.
        lower: whether to put `LOWER_AND_STRIP` in front of its own normalizer.
    """
    changes: dict[str, Any] = {n: None for n in ("padding", "truncation") if given.get(n)}
    if lower:
        own = given.get("normalizer")
        steps = [*LOWER_AND_STRIP, *([] if own is None else [own])]
        changes["normalizer"] = {"type": "Sequence", "normalizers": steps}
    if not changes:
        return original
    return json.dumps({**given, **changes}, ensure_ascii=False, separators=(",", ":")).encode()
