"""Subscale networks: later pixels are never seen, a slice at once is a slice pixel by pixel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.lib.range_coder import Decoding, encoded
from cascade.pixels.order import GIVEN, group_map, subscale_raster
from cascade.pixels.pictures import Recorded
from stages.data.pixel_passes import one_pass
from stages.data.slice_passes import SliceLoader, slice_size, whole_slices
from stages.evaluation.pixel_sampling import Walker
from stages.networks.exact import check_bound, frozen
from stages.pixel_presets import PX16, PixelPreset, sliced
from stages.training.pixel_objective import bits
from stages.training.pixel_recipe import pixel_recipe
from stages.training.trainer import TrainOptions, open_trainer
from tests.support.tiny_pixels import WIDTH, stirred_pixels
from tests.support.tiny_training import smooth_picture, tiny_dataset

SMALL = replace(
    PX16, name="slices", resolution=8, low_resolution=None, scheme=sliced(8, 2), slices=2,
    positions=False, width=8, blocks=1, batch=2, crop=8, context_width=WIDTH,
)  # fmt: skip
"""The whole picture from nothing, 3 bits before 5."""
UPSCALER = replace(SMALL, low_resolution=4, scheme=sliced(8, 2, given=True))
"""The first slice is the parent."""
BOTH = pytest.mark.parametrize("preset", [SMALL, UPSCALER], ids=["whole", "upscaler"])
TEXT = np.zeros((1, WIDTH), np.float32)


def truth_and_parent(preset: PixelPreset) -> tuple[np.ndarray, np.ndarray | None]:
    """One picture `[1, 8, 8, 3]` and what the stage starts from."""
    pixels = smooth_picture(8, 0)[None]
    return pixels, None if preset.low_resolution is None else pixels[:, ::2, ::2].copy()


def test_a_given_slice_is_the_parents() -> None:
    """Size upscaling: the first slice is given, the others keep their order."""
    whole = group_map(subscale_raster(8, 2), 8, 8)
    given = group_map(subscale_raster(8, 2, "subsample"), 8, 8)
    assert (given[::2, ::2] == GIVEN).all()
    assert np.array_equal(np.maximum(whole - 16, GIVEN), given)


@BOTH
@pytest.mark.parametrize("plane", [0, 1])
def test_a_later_pixel_changes_no_earlier_logit(preset: PixelPreset, plane: int) -> None:
    """Every pixel of a slice in one run; the one changed changes none up to itself, and some after.

    In the second plane the top bits of all pixels are known: only the low ones are changed.
    """
    network, size = stirred_pixels(preset), slice_size(preset)
    slices = preset.scheme.order.count // size
    order = group_map(preset.scheme.order, 8, 8).reshape(-1)
    rng = np.random.default_rng(0)
    canvas = torch.from_numpy(rng.integers(0, 256, (1, 3, 8, 8)).astype(np.float32))
    changed = torch.tensor([(plane * slices + 1) * size])
    targets = torch.from_numpy(np.flatnonzero(order // size == 1))[None]
    known = torch.ones(1, 1, 8, 8)
    low = None if preset.low_resolution is None else canvas[:, :, ::2, ::2]

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return network.body(pixels, known, changed, targets, low_res=low)[0]

    before, later = features(canvas), False
    for rank in range(size, preset.scheme.order.count):
        other = canvas.clone()
        at = np.flatnonzero(order == rank)[0]
        other.flatten(2)[0, :, at] = other.flatten(2)[0, :, at] // 32 * 32 + (0 if plane else 100)
        after = (features(other) != before).any(1).numpy()
        assert not after[order[targets[0]] <= rank].any()
        later |= bool(after.any())
    assert later


@BOTH
def test_a_slice_at_once_takes_the_bits_of_its_pixels_one_by_one(preset: PixelPreset) -> None:
    """What training counts in one run is what the decisions take pass by pass."""
    network = stirred_pixels(preset)
    pixels, parent = truth_and_parent(preset)
    recorded = Recorded(pixels)
    assert np.array_equal(Walker(preset, network).walk(parent, [TEXT], recorded), pixels)
    size = slice_size(preset)
    last = torch.arange(size - 1, preset.passes, size)
    many = torch.from_numpy(pixels).permute(0, 3, 1, 2).repeat(len(last), 1, 1, 1)
    text = torch.zeros(len(last), 1, WIDTH), torch.zeros(len(last), 1)
    batch = one_pass(preset, many, many.float(), last, torch.zeros(len(last)), text)
    found = bits(network, whole_slices(preset, many, batch))
    assert float(found.sum()) == pytest.approx(recorded.bits.sum(), rel=5e-3)


def test_a_coded_picture_comes_back() -> None:
    """Decoding what the same weights encoded is the picture, in about the bits that they claim."""
    pixels, parent = truth_and_parent(UPSCALER)
    walker, recorded = Walker(UPSCALER, stirred_pixels(UPSCALER)), Recorded(pixels)
    walker.walk(parent, [TEXT], recorded)
    data = encoded(recorded.intervals)
    assert 8 * len(data) == pytest.approx(recorded.bits.sum(), rel=0.01, abs=16)
    assert np.array_equal(walker.walk(parent, [TEXT], Decoding(data)), pixels)


def test_training_makes_the_bits_fewer_and_keeps_the_bound(tmp_path: Path) -> None:
    """Four steps of whole slices; the sums stay within what float32 holds."""
    loader = SliceLoader(tiny_dataset(size=256), SMALL)
    options = TrainOptions(folder=tmp_path, steps=4, cool_down=0.0)
    trainer = open_trainer(SMALL, loader, options, pixel_recipe(SMALL, loader, 0))
    batch = loader.batch(2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = float(bits(trainer.model, batch).mean())
    for _ in trainer.run():
        pass
    with torch.no_grad():
        assert float(bits(trainer.model, batch).mean()) < before
    assert 0 < check_bound(frozen(trainer.model)) < 1
