"""The prepared file: what `prepare` writes, `open_dataset` reads, and what may not slip through."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import InvalidRequest
from cascade.types import Array, ImageU8
from stages.data.captions import (
    STYLES,
    keyword_captions,
    make_keywords,
    named_captions,
    plain_caption,
)
from stages.data.dataset import (
    HELD_OUT_SHARE,
    Dataset,
    box_average,
    is_held_out,
    join,
    keyword_lookup,
    open_dataset,
    pack_image,
    prepare,
    read_concepts,
    split,
    write_dataset,
)
from stages.data.recolour import bare_name, coloured_caption, is_kept_pair, other_colours
from tests.support.tiny_training import smooth_picture, tiny_dataset

CONCEPTS = read_concepts()


def drawing(icon: str, style: str) -> ImageU8:
    """A picture of 16x16 whose colour says which icon and style it is."""
    number = CONCEPTS.index(icon)
    return np.full((16, 16, 3), (number % 256, number // 256, STYLES.index(style)), np.uint8)


def words_for(icon: str) -> list[str]:
    """Two words of its own and two that every concept has."""
    return [f"one-{icon}", f"two-{icon}", "more", "last"]


def encode(caption: str) -> Array:
    """As many rows as words; the first number of each is the largest."""
    rows = np.random.default_rng(len(caption)).uniform(-1, 1, (len(caption.split()), 5))
    rows[:, 0] = 2.0
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the whole concept list, with pictures of 16 instead of 1024 pixels."""
    path = tmp_path_factory.mktemp("data") / "deep" / "emoji.npz"
    lines: list[str] = []
    prepare(
        path, drawing, words_for, encode, large=10, report=lines.append,
    )  # fmt: skip
    assert lines[-1].startswith("256: ")
    return path


@pytest.fixture(scope="module")
def data(prepared: Path) -> Dataset:
    """The same file, opened."""
    return open_dataset(prepared)


def test_every_concept_in_every_style(data: Dataset) -> None:
    """Examples follow the concept list, three styles each, with their flags."""
    expected = [(icon, style) for icon in CONCEPTS for style in STYLES]
    assert [(e.icon, e.style) for e in data.examples] == expected
    assert all(e.held_out == is_held_out(e.icon) for e in data.examples)


def test_pictures_come_back_exactly(data: Dataset) -> None:
    """The small picture is the box average of the drawn one, lossless."""
    for index in (0, 1, len(data.examples) - 1):
        example = data.examples[index]
        expected = box_average(drawing(example.icon, example.style), 4)
        np.testing.assert_array_equal(data.picture(index, 256), expected)
        np.testing.assert_array_equal(data.picture(index, 64), box_average(expected, 4))


def test_large_pictures_are_some_and_all_held_out(data: Dataset) -> None:
    """Large ones are kept for evaluation and for as many others as asked, spread over the list."""
    kept = [index for index, blob in enumerate(data.pictures_1024) if blob]
    held_out = [index for index, e in enumerate(data.examples) if e.held_out]
    assert set(held_out) <= set(kept)
    assert 0 < len(set(kept) - set(held_out)) <= 10
    np.testing.assert_array_equal(data.picture(kept[0], 1024), drawing(CONCEPTS[0], "noto"))


def test_captions_go_with_their_pictures(data: Dataset) -> None:
    """Named ones first, then those of keywords, the one without a style last."""
    keywords = make_keywords(CONCEPTS, words_for)
    for example in data.examples[:7]:
        said = [data.captions[n] for n in example.captions]
        assert said == [
            *named_captions(example.icon, example.style, keywords.taught(example.icon)),
            *keyword_captions(example.icon, example.style, keywords),
            plain_caption(example.icon),
        ]
    assert len(set(data.captions)) == len(data.captions)


def test_embeddings_come_back_within_half_a_step(data: Dataset) -> None:
    """Eight bits per number, one scale per token: at most half a step off, lengths right."""
    for caption, stored in zip(data.captions[:50], data.embeddings[:50], strict=True):
        expected = encode(caption)
        assert (stored.shape, stored.dtype) == (expected.shape, np.float32)
        assert np.abs(stored - expected).max() <= 2.0 / 127 / 2 + 1e-6
        assert stored[:, 0] == pytest.approx(2.0, rel=1e-6)


def test_rows_of_different_lengths(tmp_path: Path) -> None:
    """Examples may have fewer captions than others; the gaps are filled and taken out again."""
    count = len(CONCEPTS) * len(STYLES)
    rows = [[0, 1, 2, 3] if n % 2 else [1, 3] for n in range(count)]
    blob = pack_image(smooth_picture(8, 0))
    path = tmp_path / "data.npz"
    write_dataset(
        path, [blob] * count, [b""] * count, rows, [(1, 4, 3), (1, 0, 2)], ["a", "b", "c", "ü"],
        [np.ones((1, 2), np.float32)] * 4,
    )  # fmt: skip
    opened = open_dataset(path)
    assert [list(e.captions) for e in opened.examples] == rows
    assert opened.examples[0].coloured == ()
    assert opened.examples[1].coloured == (("blue", 3), ("red", 2))
    assert opened.captions == ("a", "b", "c", "ü")


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    """The error names the command."""
    with pytest.raises(InvalidRequest, match="cascade data prepare"):
        open_dataset(tmp_path / "none.npz")


def test_a_file_of_another_list_is_refused(tmp_path: Path) -> None:
    """A file with another number of pictures than the list asks for is refused."""
    path = tmp_path / "data.npz"
    blob = pack_image(smooth_picture(8, 0))
    write_dataset(path, [blob], [b""], [[0, 0]], [], ["a"], [np.ones((1, 2), np.float32)])
    with pytest.raises(InvalidRequest, match="holds 1 pictures"):
        open_dataset(path)


def test_a_file_without_other_colours_is_refused(prepared: Path, tmp_path: Path) -> None:
    """One that was prepared before there were any says how to make it anew."""
    with np.load(prepared) as stored:
        older = {name: stored[name] for name in stored.files if name != "coloured"}
    np.savez(tmp_path / "older.npz", **older)
    with pytest.raises(InvalidRequest, match="run `cascade data prepare` again"):
        open_dataset(tmp_path / "older.npz")


def test_other_colours_are_captioned(data: Dataset) -> None:
    """What has a hue is called by every other colour that is not kept back, if it is trained on."""
    told = 0
    for index, example in enumerate(data.examples):
        found = other_colours(example.icon, data.picture(index, 256), CONCEPTS)
        name = bare_name(example.icon)
        wanted = [c for c in found if not is_kept_pair(c, name) and not example.held_out]
        assert [colour for colour, _ in example.coloured] == wanted
        for colour, said in example.coloured:
            assert data.captions[said] == coloured_caption(colour, example.icon, example.style)
        told += len(wanted)
    assert told > 100


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=20)))
def test_join_and_split(blobs: list[bytes]) -> None:
    """Byte strings, empty ones too, come back as they were."""
    assert split(*join(blobs)) == blobs


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_box_average_is_the_rounded_mean(factor: int) -> None:
    """Every pixel is the mean of its square, halves rounded up."""
    image = np.random.default_rng(factor).integers(0, 256, (8, 16, 3), np.uint8)
    small = box_average(image, factor)
    assert (small.shape, small.dtype) == ((8 // factor, 16 // factor, 3), np.uint8)
    for y, x in np.ndindex(*small.shape[:2]):
        square = image[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        mean = square.reshape(-1, 3).astype(np.float64).mean(axis=0)
        np.testing.assert_array_equal(small[y, x], np.floor(mean + 0.5))


def test_box_average_of_white_is_white() -> None:
    """Sums do not overflow, and white stays white."""
    assert (box_average(np.full((32, 32, 3), 255, np.uint8), 32) == 255).all()


def test_held_out_concepts_are_a_share_of_all() -> None:
    """About one in sixteen, decided by the name alone, in every style at once."""
    share = np.mean([is_held_out(icon) for icon in CONCEPTS])
    assert 0.5 / HELD_OUT_SHARE < share < 2 / HELD_OUT_SHARE
    assert is_held_out("red-apple") is is_held_out("red-apple")


def test_concept_lists_are_read(tmp_path: Path) -> None:
    """Names, without comments and empty lines."""
    path = tmp_path / "list.txt"
    path.write_text("# fruit\nred-apple\n\nbook\n")
    assert read_concepts(path) == ["red-apple", "book"]


def test_the_concept_list_has_no_doubles() -> None:
    """Every concept is listed once."""
    assert len(set(CONCEPTS)) == len(CONCEPTS)


def test_keywords_are_found_by_label() -> None:
    """Short names follow the keywords, once each; icons without an entry have none."""
    look: Callable[[str], list[str]] = keyword_lookup(
        [
            {"label": "Red Apple", "hexcode": "1F34E", "tags": ["fruit"]},
            {"label": "face: cat’s", "hexcode": "1F431"},
        ],
        [{"1F34E": "red_apple"}, {"1F34E": ["apple", "red_apple", "Fruit"]}],
    )
    assert look("red-apple") == ["fruit", "red apple", "apple"]
    assert look("face-cats") == []
    assert look("dog") == []


def test_the_tiny_data_set_is_one() -> None:
    """The data set of the other tests has the shape of a true one."""
    data = tiny_dataset()
    assert data.picture(0, 32).shape == (32, 32, 3)
    assert max(n for e in data.examples for n in e.captions) == len(data.embeddings) - 1
