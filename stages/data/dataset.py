"""The training set as one file: pictures at 256, some at 1024, captions and their embeddings.

`prepare` makes the file from the icon sets; `open_dataset` reads it with numpy and pillow alone, so
that a training machine needs nothing else. Knows no network and no noise.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from cascade.errors import InvalidRequest
from cascade.types import Array, ImageU8
from stages.data.captions import (
    STYLES,
    concept_name,
    keyword_captions,
    make_keywords,
    named_captions,
    plain_caption,
)
from stages.data.recolour import HUES, bare_name, coloured_caption, is_kept_pair, other_colours

HELD_OUT_SHARE = 16
"""One concept in so many is never trained on; which ones, a hash decides once and for all."""

COLOURS = tuple(HUES)
CONCEPTS_FILE = Path(__file__).with_name("concepts.txt")
Encode = Callable[[str], Array]
"""A caption to its token embeddings, `[tokens, width]` float."""


@dataclass(frozen=True, slots=True)
class Example:
    """One picture of the training set, by index into the arrays of `Dataset`."""

    icon: str
    style: str
    held_out: bool
    captions: tuple[int, ...]
    """Numbers of its captions: the plain one first, others with the name, some made of keywords
    alone, and last the one without a style."""
    coloured: tuple[tuple[str, int], ...] = ()
    """Colours that it can be turned to, each with the number of the caption that says so."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The prepared data, pictures still compressed."""

    examples: tuple[Example, ...]
    captions: tuple[str, ...]
    pictures_256: tuple[bytes, ...]
    pictures_1024: tuple[bytes, ...]
    """Empty where the file had no room for the large rendering."""
    embeddings: tuple[Array, ...]
    """`[tokens, width]` float32 per caption."""

    def picture(self, index: int, resolution: int) -> ImageU8:
        """One picture at 64, 128, 256 or 1024 pixels."""
        packed = self.pictures_1024[index] if resolution == 1024 else self.pictures_256[index]
        with Image.open(io.BytesIO(packed), formats=["WEBP"]) as image:
            pixels = np.asarray(image.convert("RGB"))
        return box_average(pixels, 256 // resolution) if resolution in (64, 128) else pixels


def is_held_out(icon: str) -> bool:
    """Whether a concept is kept from training, decided by its name alone."""
    return hashlib.sha256(icon.encode()).digest()[0] % HELD_OUT_SHARE == 0


def read_concepts(path: Path = CONCEPTS_FILE) -> list[str]:
    """The concept list; `#` starts a comment line."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def box_average(image: ImageU8, factor: int) -> ImageU8:
    """The picture `factor` times smaller, each pixel the rounded mean of its square."""
    height, width, _ = image.shape
    sums = image.reshape(height // factor, factor, width // factor, factor, 3).sum(
        axis=(1, 3), dtype=np.uint32
    )
    square = factor * factor
    return ((sums + square // 2) // square).astype(np.uint8)


def prepare(
    path: Path,
    draw: Callable[[str, str], ImageU8],
    words: Callable[[str], list[str]],
    encode: Encode,
    *,
    large: int,
    report: Callable[[str], None],
) -> None:
    """Draw every concept in every style, encode every caption once, write one file.

    Args:
        path: the file to write, `.npz` without pickled objects.
        draw: icon and style to a `[1024, 1024, 3]` picture.
        words: icon to its keywords.
        encode: caption to embeddings.
        large: how many pictures to keep at 1024 (they are the bulk of the file).
        report: called with a line of progress now and then.
    """
    icons = read_concepts()
    keywords = make_keywords(icons, words)
    jobs = [(icon, style) for icon in icons for style in STYLES]
    # Large ones spread evenly over the list; every held-out picture is kept for evaluation.
    wanted = np.linspace(0, len(jobs) - 1, min(large, len(jobs))).round().astype(int)
    keep_large = set(wanted.tolist())
    numbers: dict[str, int] = {}

    def number(caption: str) -> int:
        return numbers.setdefault(caption, len(numbers))

    small, big, rows = [], [], []
    coloured: list[tuple[int, int, int]] = []
    for index, (icon, style) in enumerate(jobs):
        pixels = draw(icon, style)
        small.append(pack_image(box_average(pixels, 4)))
        keep = index in keep_large or is_held_out(icon)
        big.append(pack_image(pixels) if keep else b"")
        captions = [
            *named_captions(icon, style, keywords.taught(icon)),
            *keyword_captions(icon, style, keywords),
            plain_caption(icon),
        ]
        rows.append([number(caption) for caption in captions])
        if not is_held_out(icon):
            for colour in other_colours(icon, box_average(pixels, 4), icons):
                if not is_kept_pair(colour, bare_name(icon)):
                    said = number(coloured_caption(colour, icon, style))
                    coloured.append((index, COLOURS.index(colour), said))
        if index % 100 == 0:
            report(f"drawn {index} of {len(jobs)}")
    report(f"encoding {len(numbers)} captions")
    embeddings = [encode(caption) for caption in numbers]
    report(
        f"256: {sum(map(len, small)) / 1e6:.1f} MB, 1024: {sum(map(len, big)) / 1e6:.1f} MB, "
        f"text: {sum(e.size for e in embeddings) / 1e6:.1f} MB"
    )
    write_dataset(path, small, big, rows, coloured, list(numbers), embeddings)


def pack_image(pixels: ImageU8) -> bytes:
    """A picture as lossless WebP."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", lossless=True, quality=80, method=4)
    return out.getvalue()


def join(blobs: Iterable[bytes]) -> tuple[Array, Array]:
    """Byte strings as one array and the offsets at which each begins and ends."""
    listed = list(blobs)
    offsets = np.concatenate([[0], np.cumsum([len(blob) for blob in listed])]).astype(np.int64)
    return np.frombuffer(b"".join(listed), np.uint8), offsets


def write_dataset(  # noqa: PLR0913  one argument for each array of the file
    path: Path,
    small: list[bytes],
    big: list[bytes],
    rows: list[list[int]],
    coloured: list[tuple[int, int, int]],
    captions: list[str],
    embeddings: list[Array],
) -> None:
    """The `.npz` file; embeddings are stored as int8 with one scale per token.

    Args:
        path: file to write.
        small: pictures at 256, packed.
        big: pictures at 1024, packed; empty where none is kept.
        rows: numbers of the captions of every example.
        coloured: triples: example, number of the colour, number of the caption.
        captions: the texts, by their number.
        embeddings: of every caption, `[tokens, width]` float32.
    """
    flat = np.concatenate(embeddings).astype(np.float32)
    scales = np.abs(flat).max(axis=1, keepdims=True) / 127.0
    path.parent.mkdir(parents=True, exist_ok=True)
    words, word_offsets = join(caption.encode() for caption in captions)
    small_bytes, small_offsets = join(small)
    big_bytes, big_offsets = join(big)
    longest = max(len(row) for row in rows)
    np.savez(
        path,
        small=small_bytes,
        small_offsets=small_offsets,
        big=big_bytes,
        big_offsets=big_offsets,
        words=words,
        word_offsets=word_offsets,
        rows=np.array([row[:-1] + [-1] * (longest - len(row)) + row[-1:] for row in rows]),
        coloured=np.array(coloured, np.int64).reshape(-1, 3),
        text=np.round(flat / scales).astype(np.int8),
        text_scales=scales.astype(np.float32),
        text_lengths=np.array([len(e) for e in embeddings]),
    )


def open_dataset(path: Path) -> Dataset:
    """The prepared file, checked against today's concept list.

    Raises:
        InvalidRequest: there is no such file, it is none of ours, or it was prepared from another
            concept list; the message says how to make it.
    """
    if not path.exists():
        raise InvalidRequest(
            f"data: {path} does not exist: make it with `cascade data prepare`", field="data"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            held = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as exc:
        # Its first sentence: the next one of numpy's would have the file trusted.
        why = str(exc).partition(". ")[0]
        raise InvalidRequest(
            f"data: {path} is no prepared file ({why}): make it with `cascade data prepare`",
            field="data",
        ) from exc
    jobs = [(icon, style) for icon in read_concepts() for style in STYLES]
    if "coloured" not in held:
        raise InvalidRequest(
            f"data: {path} knows no other colours: run `cascade data prepare` again", field="data"
        )
    if len(jobs) != len(held["rows"]):
        raise InvalidRequest(
            f"data: {path} holds {len(held['rows'])} pictures, the concept list asks for "
            f"{len(jobs)}: run `cascade data prepare` again",
            field="data",
        )
    coloured: list[list[tuple[str, int]]] = [[] for _ in jobs]
    for index, colour, said in held["coloured"].tolist():
        coloured[index].append((COLOURS[colour], said))
    text = held["text"].astype(np.float32) * held["text_scales"]
    ends = np.cumsum(held["text_lengths"])[:-1]
    return Dataset(
        examples=tuple(
            Example(
                icon, style, is_held_out(icon), tuple(int(n) for n in row if n >= 0), tuple(others)
            )
            for (icon, style), row, others in zip(jobs, held["rows"], coloured, strict=True)
        ),
        captions=tuple(blob.decode() for blob in split(held["words"], held["word_offsets"])),
        pictures_256=tuple(split(held["small"], held["small_offsets"])),
        pictures_1024=tuple(split(held["big"], held["big_offsets"])),
        embeddings=tuple(np.split(text, ends)),
    )


def split(data: Array, offsets: Array) -> list[bytes]:
    """The byte strings that `join` put together: `[n]` uint8 cut at `[m + 1]` int64 offsets."""
    raw = data.tobytes()
    return [raw[a:b] for a, b in pairwise(offsets.tolist())]


Shortcodes = Mapping[str, str | list[str]]
"""Unicode number of an emoji to the short names that people type for it."""


def keyword_lookup(
    emojibase: list[dict[str, list[str] | str]], shortcodes: Sequence[Shortcodes]
) -> Callable[[str], list[str]]:
    """Icon name to words for it, matched by label: emojibase keywords, then short names.

    Args:
        emojibase: entries of emojibase's `data.json`.
        shortcodes: its lists of short names.
    """
    by_label = {
        str(entry["label"]).lower().replace("’", "").replace(":", ""): entry for entry in emojibase
    }

    def look_up(icon: str) -> list[str]:
        entry = by_label.get(concept_name(icon))
        if entry is None:
            return []
        words = list(entry.get("tags", []))
        for codes in shortcodes:
            short = codes.get(str(entry["hexcode"]), [])
            words += [short] if isinstance(short, str) else short
        return list(dict.fromkeys(word.replace("_", " ").lower() for word in words))

    return look_up
