"""Training and the product agree: the same inputs, the same bits, the same pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.pixels.order import columns_rows, squares
from cascade.pixels.pictures import Pictures, Recorded
from cascade.pixels.scheme import PassScheme
from cascade.types import Array
from stages.data.dataset import box_average
from stages.data.pixel_batch import PixelBatch
from stages.data.pixel_passes import one_pass
from stages.evaluation.pixel_bits import bits_per_value
from stages.evaluation.pixel_sampling import Walker, sampled
from stages.pixel_presets import AROUND, PARENTS, PixelPreset, with_order
from tests.support.tiny_pixels import TINY_FIRST, TINY_SECOND, WIDTH, stirred_pixels
from tests.support.tiny_training import smooth_picture

TEXTS = [
    np.random.default_rng(n).standard_normal((2 + n, WIDTH)).astype(np.float32) for n in range(3)
]
COPIES = {"parent_copies": PARENTS, "canvas_copies": AROUND}
MEANS = PassScheme(parent="box", order=squares("box"), guess="cell", **COPIES)
VARIANTS = {
    "first": TINY_FIRST,
    "squares": TINY_SECOND,
    "columns-rows": with_order(TINY_SECOND, columns_rows("subsample")),
    "means": replace(TINY_SECOND, scheme=MEANS),
    "channels": replace(TINY_SECOND, scheme=replace(MEANS, channel_passes="passes")),
    "planes": replace(TINY_SECOND, scheme=replace(MEANS, planes=(3, 5))),
    "no-copies": replace(TINY_SECOND, scheme=replace(MEANS, parent_copies=(), canvas_copies=())),
}
STAGES = pytest.mark.parametrize("preset", VARIANTS.values(), ids=VARIANTS.keys())


def truth(preset: PixelPreset) -> Array:
    """Three smooth pictures."""
    return np.stack([smooth_picture(preset.resolution, n) for n in range(3)])


def parents_of(preset: PixelPreset, pictures: Array) -> Array | None:
    """Every second pixel of them or the mean of each cell, for a stage that has a parent."""
    if preset.scheme.parent == "box":
        return np.stack([box_average(picture, 2) for picture in pictures])
    return None if preset.low_resolution is None else pictures[:, ::2, ::2].copy()


def trained_on(preset: PixelPreset, pictures: Array, group: int) -> PixelBatch:
    """One pass as training shows it, nothing falsified."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    text = torch.zeros(3, 1, WIDTH), torch.zeros(3, 1)
    return one_pass(preset, pixels, pixels.float(), torch.full((3,), group), torch.zeros(3), text)


@STAGES
def test_training_shows_what_the_product_will(preset: PixelPreset) -> None:
    """Every input of the body and every candidate, pass by pass, equal to the bit."""
    pictures = truth(preset)
    walk = Pictures(preset.scheme, pictures.shape[1:3], parents_of(preset, pictures), rows=3)
    for index, step in enumerate(walk.passes):
        batch = trained_on(preset, pictures, index)
        for name, value in walk.begin(index).items():
            assert np.array_equal(getattr(batch, name).numpy(), value), name
        if step.channels[0] == 0 and preset.scheme.candidates:
            assert np.array_equal(walk.heads_inputs(0)["match"] > 0, batch.usable.numpy())
        assert batch.decides.numpy()[0].nonzero()[0].tolist() == list(step.channels)
        for channel in step.channels:
            values = step.plane.part(pictures.reshape(3, -1, 3)[:, step.targets, channel])
            slots = walk.canvas.slots
            cells = slots.of_cells(step.targets, rows=3)
            where = slots.of_pixels(step.targets, rows=3)
            walk.canvas.decide(where, channel, step.plane, values.reshape(-1), cells)


@STAGES
def test_bits_of_training_are_the_bits_of_the_decisions(preset: PixelPreset) -> None:
    """What the objective measures in floats is what a coder takes with the integer weights.

    The table of weights stops at 2^-16 of the largest, and rounds: half a percent, no more.
    """
    pictures, walker = truth(preset), Walker(preset, stirred_pixels(preset))
    recorded = Recorded(pictures)
    walked = walker.walk(parents_of(preset, pictures), TEXTS, recorded)
    assert np.array_equal(walked, pictures)
    measured = bits_per_value(walker.network, preset, list(pictures), TEXTS)
    assert recorded.bits.mean() == pytest.approx(measured.per_value, rel=5e-3)


def test_a_stage_draws_the_same_alone_and_in_company() -> None:
    """Two stages, three texts and seeds: each row is the picture it is alone."""
    walkers = [Walker(preset, stirred_pixels(preset)) for preset in (TINY_FIRST, TINY_SECOND)]
    together = sampled(walkers, TEXTS, [5, 6, 7])
    alone = sampled(walkers, TEXTS[1:2], [6])
    for both, one in zip(together, alone, strict=True):
        assert np.array_equal(both[1], one[0])
    small, large = together
    assert np.array_equal(large[2][::2, ::2], small[2])
    assert not np.array_equal(small[0], small[1])


def test_a_float_network_is_sampled_too() -> None:
    """For comparison: its logits are whole numbers only after rounding, which `exact` refuses."""
    preset = replace(TINY_FIRST, exact=False)
    network = preset.network().eval().requires_grad_(requires_grad=False)
    features = torch.zeros(1, 1, 64)
    question = {
        "earlier": np.full((1, 1, 2), 256), "match": np.ones((1, 1, 24), np.float32)
    }  # fmt: skip
    found = Walker(preset, network).asked(features, question)
    assert found.high.shape == (1, 16)
    assert found.copy is not None
    assert found.copy.shape == (1, 25)
