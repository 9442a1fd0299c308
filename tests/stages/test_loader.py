"""The loader: which pictures, which captions, and crops that line up with their enlarged input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import upsample
from stages.data.dataset import box_average
from stages.data.loader import COLOURED_SHARE, PLAIN_SHARE, REDRAWS, Loader, Picture, pad
from stages.data.recolour import main_hue, nearest_colour
from tests.support.tiny_training import TINY_BASE, TINY_SR, WIDTH, smooth_picture, tiny_dataset

DATA = tiny_dataset()


def generator(seed: int = 0) -> torch.Generator:
    """A source of draws."""
    return torch.Generator().manual_seed(seed)


def test_values_are_the_runtimes() -> None:
    """What training sees, the runtime writes as the very pixels of a picture of the data."""
    batch = Loader(DATA, TINY_BASE).batch(5, generator())
    pixels = {DATA.picture(n, 32).tobytes() for n in range(4)}
    assert {from_network(row[None].numpy()).tobytes() for row in batch.x0} <= pixels


def test_base_batches() -> None:
    """Whole pictures, in [-1, 1], without a smaller one."""
    batch = Loader(DATA, TINY_BASE).batch(5, generator())
    assert batch.x0.shape == (5, 3, 32, 32)
    assert batch.low_res is None
    assert batch.x0.dtype == torch.float32
    assert -1 <= batch.x0.min() < batch.x0.max() <= 1
    known = {to_network(DATA.picture(n, 32)).tobytes() for n in range(4)}
    assert {row.numpy().tobytes() for row in batch.x0} <= known


def test_super_resolution_batches() -> None:
    """Crops and, at the same size, their enlarged smaller picture."""
    batch = Loader(DATA, TINY_SR).batch(5, generator())
    assert batch.x0.shape == (5, 3, 16, 16)
    assert batch.low_res is not None
    assert batch.low_res.shape == (5, 3, 16, 16)
    # Smooth pictures: the enlarged one is near the true one, a crop of elsewhere would not be.
    assert (batch.x0 - batch.low_res).square().mean() < 0.05 * batch.x0.var()


def test_who_is_in() -> None:
    """All that is not held out, for every stage; or the held out."""
    for preset in (TINY_BASE, TINY_SR):
        assert [p.example.icon for p in Loader(DATA, preset).pictures] == [
            "icon-0", "icon-1", "icon-2", "icon-3"
        ]  # fmt: skip
    held_out = Loader(DATA, TINY_SR, held_out=True).pictures
    assert [p.example.icon for p in held_out] == ["icon-4", "icon-5"]


def test_only_pictures_with_a_large_rendering_train_the_last_stage() -> None:
    """At 1024 pixels an example without the large picture is left out."""
    large = (b"", DATA.pictures_256[1], b"", DATA.pictures_256[3], b"", b"")
    data = replace(DATA, pictures_1024=large)
    preset = replace(TINY_SR, resolution=1024, low_resolution=256)
    assert [p.example.icon for p in Loader(data, preset).pictures] == ["icon-1", "icon-3"]


def test_half_resolution_is_the_box_average() -> None:
    """The first steps of the base stage see every picture at half its size."""
    pictures = Loader(DATA, TINY_BASE)
    batch = pictures.batch(4, generator(), shrink=2)
    known = {to_network(box_average(DATA.picture(n, 32), 2)).tobytes() for n in range(4)}
    assert {row.numpy().tobytes() for row in batch.x0} <= known


def test_batches_come_from_the_generator() -> None:
    """The same state gives the same batch, whatever else was drawn."""
    loader = Loader(DATA, TINY_SR)
    one = loader.batch(4, generator(5))
    torch.rand(3)
    other = loader.batch(4, generator(5))
    assert torch.equal(one.x0, other.x0)
    assert torch.equal(one.context, other.context)
    assert not torch.equal(one.x0, loader.batch(4, generator(6)).x0)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_crop_is_cut_from_the_whole_enlarged_picture(factor: int) -> None:
    """At every place, edges too: enlarging the crop's surroundings equals enlarging all."""
    pixels = np.random.default_rng(0).integers(0, 256, (12 * factor, 12 * factor, 3), np.uint8)
    low = box_average(pixels, factor)
    whole, high = upsample(to_network(low), factor)[0], to_network(pixels)[0]
    picture = Picture(DATA.examples[0], pixels, low)
    size = 5
    for top in range(12 - size + 1):
        for left in (0, 1, 2, 5, 7):
            x0, wide = Loader.crop(picture, top, left, size, factor)
            rows = slice(top * factor, (top + size) * factor)
            columns = slice(left * factor, (left + size) * factor)
            np.testing.assert_array_equal(x0, high[:, rows, columns])
            np.testing.assert_allclose(wide, whole[:, rows, columns], atol=1e-6)


def test_the_base_stage_has_no_crops() -> None:
    """Asking for one without a smaller picture is an error."""
    with pytest.raises(ValueError, match="whole pictures"):
        Loader.crop(Picture(DATA.examples[0], smooth_picture(8, 0), None), 0, 0, 2, 2)


def test_white_crops_are_drawn_again() -> None:
    """A crop of one colour is drawn again up to three times, and taken then all the same."""
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[:4, :4] = 0
    loader = Loader(tiny_dataset(pictures=[pixels]), TINY_SR)
    source = generator(1)
    count = 600
    uneven = sum(
        bool(loader.sample(loader.pictures[0], source, 1)[0].min() < 0) for _ in range(count)
    )
    # One place in 5 x 5 shows the dark pixel of the 8 x 8 picture in a window of 4 x 4.
    share = 1 - (1 - 1 / 25) ** REDRAWS
    bound = 5 * (share * (1 - share) / count) ** 0.5
    assert uneven / count == pytest.approx(share, abs=bound)


def test_captions_are_mixed_as_documented() -> None:
    """The plain caption in its share of draws, the others in equal shares of the rest."""
    loader, source, count = Loader(DATA, TINY_BASE), generator(2), 3000
    example = DATA.examples[1]
    drawn = [loader.text(example, source) for _ in range(count)]
    shares = [sum(text is DATA.embeddings[n] for text in drawn) / count for n in example.captions]
    others = (1 - PLAIN_SHARE) / 2
    bound = 5 * 0.5 / count**0.5
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([PLAIN_SHARE, others, others], abs=bound)


def test_other_colours_are_shown_in_their_share() -> None:
    """With the caption that says so, and the picture turned to that colour; else as it is."""
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[8:24, 8:24] = (200, 20, 10)
    plain = tiny_dataset(pictures=[pixels])
    example = replace(plain.examples[0], coloured=(("blue", 1), ("green", 2)))
    loader = Loader(replace(plain, examples=(example,)), TINY_BASE)
    source, count = generator(3), 2000
    shown = [loader.coloured(loader.pictures[0], source) for _ in range(count)]
    as_it_is = [picture for picture, text in shown if text is None]
    bound = 5 * 0.5 / count**0.5
    assert len(as_it_is) / count == pytest.approx(1 - COLOURED_SHARE, abs=bound)
    assert all(picture is loader.pictures[0] for picture in as_it_is)
    for colour, said in example.coloured:
        mine = [picture for picture, text in shown if text is plain.embeddings[said]]
        assert len(mine) / count == pytest.approx(COLOURED_SHARE / 2, abs=bound)
        assert nearest_colour(main_hue(mine[0].pixels) or 0.0) == colour


def test_texts_are_padded_and_masked() -> None:
    """Shorter captions are filled with zeros under a mask of zeros."""
    texts = [np.full((n, WIDTH), n, np.float32) for n in (3, 1, 2)]
    context, mask = pad(texts)
    assert context.shape == (3, 3, WIDTH)
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert context[..., 0].tolist() == [[3, 3, 3], [1, 0, 0], [2, 2, 0]]
