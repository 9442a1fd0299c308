"""Bits of pixels by groups: closed forms by hand, and what a batch shows and hides."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade.pixels.order import at_once, columns_rows, squares
from stages.data.pixel_batch import PixelBatch
from stages.data.pixel_loader import PixelLoader, falsified, shifted
from stages.data.pixel_passes import one_pass, pixel_maps
from stages.evaluation.pixel_bits import bits_per_value, codec_bits
from stages.networks.pixel_network import NIBBLES, SYMBOLS
from stages.pixel_presets import (
    PIXEL_PRESETS,
    PX16,
    PX64,
    PixelPreset,
    with_order,
)
from stages.training.pixel_objective import (
    HeadLogits,
    PixelObjective,
    bits,
    log_probability,
)
from tests.support.tiny_pixels import (
    TINY_FIRST,
    TINY_SECOND,
    WIDTH,
    head_case,
    stirred_pixels,
)
from tests.support.tiny_training import smooth_picture, tiny_dataset

TEXT = torch.zeros(1, 1, WIDTH), torch.zeros(1, 1)


class Flat(nn.Module):
    """A network that knows nothing: every symbol alike, and copying as `copy_logit` says."""

    def __init__(self, copy_logit: float) -> None:
        super().__init__()
        self.copy_logit = copy_logit

    def body(self, **inputs: Tensor) -> Tensor:
        """Features of nothing."""
        return torch.zeros(*inputs["targets"].shape, 4)

    def heads(
        self, features: Tensor, earlier: Tensor, match: Tensor, wanted: Tensor
    ) -> tuple[Tensor, ...]:
        """Equal logits."""
        del earlier, wanted
        copies = torch.zeros(*match.shape[:2], match.shape[2] + 1)
        copies[..., 1:] = self.copy_logit
        shape = features.shape[:2]
        return torch.zeros(*shape, NIBBLES), torch.zeros(*shape, NIBBLES), copies


def batch_of(preset: PixelPreset, pixels: np.ndarray, group: int) -> PixelBatch:
    """One pass of one picture, nothing falsified."""
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return one_pass(preset, tensor, tensor.float(), torch.tensor([group]), torch.zeros(1), TEXT)


def test_a_network_that_knows_nothing_needs_eight_bits() -> None:
    """256 equal symbols and nothing to copy: 8 bits a value, to the last digit."""
    found = PixelObjective().loss(
        Flat(-1e6), batch_of(TINY_SECOND, smooth_picture(16, 0), 1), torch.Generator()
    )
    assert found.tolist() == pytest.approx([8.0], abs=1e-5)


def test_copying_in_a_picture_of_one_colour_is_a_closed_form() -> None:
    """All candidates have the value: with `m` of them usable, -log2((1/256 + m) / (1 + m))."""
    white = np.full((16, 16, 3), 200, np.uint8)
    batch = batch_of(TINY_SECOND, white, 0)
    usable = batch.usable.sum(2)[0].double()
    # The corner's cell has four parents inside, a middle one nine; known neighbours are four.
    assert usable.min() == 4 + 1
    assert usable.max() == 9 + 4
    wanted = -torch.log2((1 / SYMBOLS + usable) / (1 + usable)).mean()
    found = PixelObjective().loss(Flat(0.0), batch, torch.Generator())
    assert found.tolist() == pytest.approx([float(wanted)], rel=1e-5)


def test_both_ways_to_a_value_add_up() -> None:
    """P = c0 s + the candidates that have the value; those that do not match count for nothing."""
    high, low = torch.zeros(1, 1, NIBBLES), torch.zeros(1, 1, NIBBLES)
    high[..., 2] = 16 * math.log(3)  # 3 of 18
    low[..., 5] = 16 * math.log(2)  # 2 of 17
    copies = 16 * torch.log(torch.tensor([[[2.0, 5.0, 1.0, 7.0]]]))
    match = torch.tensor([[[True, True, False]]])
    copied = torch.tensor([[[True, False, False]]])
    found = log_probability(HeadLogits(high, low, copies), match, torch.tensor([[37]]), copied)
    assert math.exp(float(found)) == pytest.approx((2 * 3 / 18 * 2 / 17 + 5) / (2 + 5 + 1))


@pytest.mark.parametrize(
    "preset", [*PIXEL_PRESETS.values(), with_order(PX16, columns_rows("subsample"))]
)
def test_passes_are_a_partition(preset: PixelPreset) -> None:
    """Every pixel is the parent's or in exactly one pass, and no pass is empty."""
    maps = pixel_maps(preset, preset.resolution, preset.resolution)
    made = torch.cat([torch.unique(targets) for targets in maps.targets])
    given = torch.nonzero(maps.order.flatten() < 0)[:, 0]
    everything = torch.cat([made, given]).sort().values
    assert torch.equal(everything, torch.arange(preset.resolution**2))
    corners = preset.low_resolution if preset.scheme.parent == "subsample" else None
    assert len(given) == (corners or 0) ** 2


def test_a_batch_shows_what_comes_before_a_pass_alone() -> None:
    """Pass 1 of a 2x2 cell sees the parent and the diagonal; the guess is the cell's parent."""
    pixels = smooth_picture(16, 3)
    batch = batch_of(TINY_SECOND, pixels, 1)
    known = batch.known[0, 0].bool().numpy()
    assert np.array_equal(known[:2, :2], [[True, False], [False, True]])
    canvas = batch.canvas[0].permute(1, 2, 0).numpy()
    assert np.array_equal(canvas[known], pixels[known])
    assert not canvas[~known].any()
    y, x = np.divmod(batch.targets[0].numpy(), 16)
    assert set(y % 2) == {0}
    assert set(x % 2) == {1}
    assert np.array_equal(batch.values[0].numpy(), pixels[y, x])
    assert np.array_equal(batch.guess[0].numpy(), pixels[y // 2 * 2, x // 2 * 2])
    assert batch.low_res is not None
    assert np.array_equal(batch.low_res[0].permute(1, 2, 0).numpy(), pixels[::2, ::2])


def test_candidates_are_known_pixels_of_the_picture() -> None:
    """Parents first, then neighbours; unusable where they are outside or still to come."""
    pixels = smooth_picture(16, 3)
    batch = batch_of(TINY_SECOND, pixels, 0)
    at = int(torch.nonzero(batch.targets[0] == 1 * 16 + 1)[0])  # cell (0, 0), its diagonal
    usable = batch.usable[0, at].tolist()
    assert usable[:9] == [False, False, False, False, True, True, False, True, True]
    assert usable[9:] == [True, False, True, False, False, True, False, True]
    values = batch.candidates[0, at].numpy()
    assert np.array_equal(values[4], pixels[0, 0])
    assert np.array_equal(values[8], pixels[2, 2])
    assert np.array_equal(values[9], pixels[0, 0])
    assert np.array_equal(values[16], pixels[2, 2])


def test_held_out_bits_count_every_value_once() -> None:
    """8 bits per value made; what the parent gives is free; short passes count once."""
    pictures = [smooth_picture(16, n) for n in range(3)]
    texts = [np.zeros((1, WIDTH), np.float32)] * 3
    for order, passes in ((squares, 3), (columns_rows, 2), (at_once, 1)):
        preset = with_order(TINY_SECOND, order("subsample"))
        found = bits_per_value(Flat(-1e6), preset, pictures, texts)
        assert found.per_value == pytest.approx(6.0, abs=1e-4)
        assert found.groups == pytest.approx([8.0] * passes, abs=1e-4)
    first = bits_per_value(Flat(-1e6), TINY_FIRST, [smooth_picture(8, 0)], texts[:1])
    assert first.per_value == pytest.approx(8.0, abs=1e-4)


def test_codecs_need_less_for_one_colour_than_for_noise() -> None:
    """Bits per value of whole files; noise cannot be packed."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for codec in ("PNG", "WEBP"):
        assert codec_bits([np.zeros((64, 64, 3), np.uint8)], codec) < 0.2  # type: ignore[arg-type]
        assert codec_bits([noise], codec) == pytest.approx(8.1, abs=0.2)  # type: ignore[arg-type]


def test_falsifying_changes_about_its_share_and_nothing_at_level_zero() -> None:
    """Level 0 is the truth; at 1/4 about a quarter of the pixels is off."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 32, 32)).astype(np.uint8))
    found = falsified(pixels, torch.tensor([0.0, 0.25]), torch.Generator().manual_seed(0))
    changed = (found != pixels.float()).any(1).float().mean((1, 2))
    assert changed[0] == 0
    assert changed[1] == pytest.approx(0.25, abs=0.05)
    assert found.min() >= 0
    assert found.max() <= 255


def test_a_shift_moves_and_fills_with_white() -> None:
    """By whole pixels; nothing wraps around."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2, 3] = 9
    found = shifted(pixels, 1, -2)
    assert found[3, 1].tolist() == [9, 9, 9]
    assert (found[0] == 255).all()
    assert (found[:, 6:] == 255).all()


def test_batches_are_the_same_for_the_same_generator() -> None:
    """All draws come from it; crops are cells' and text is there or wholly masked."""
    preset = replace(PX64, context_width=WIDTH)
    loader = PixelLoader(tiny_dataset(size=256), preset)
    one, other = (loader.batch(3, torch.Generator().manual_seed(4)) for _ in range(2))
    for name in ("canvas", "targets", "values", "context", "aug_level"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert one.canvas.shape[2] in (preset.crop, preset.resolution)
    assert len(PixelLoader(tiny_dataset(size=256), preset, held_out=True).pictures) == 2


def test_the_passes_of_a_picture_add_up_to_its_bits() -> None:
    """Losses times values of each pass are the bits of the whole picture, for an exact network."""
    network, pixels = stirred_pixels(TINY_SECOND), smooth_picture(16, 1)
    total = 0.0
    for group in range(TINY_SECOND.passes):
        batch = batch_of(TINY_SECOND, pixels, group)
        batch = replace(batch, context_mask=torch.ones(1, 1))
        with torch.no_grad():
            loss = PixelObjective().loss(network, batch, torch.Generator())
        total += float(loss) * 3 * int((batch.weights > 0).sum())
    found = bits_per_value(network, TINY_SECOND, [pixels], [np.zeros((1, WIDTH), np.float32)])
    assert total / pixels.size == pytest.approx(found.per_value, rel=1e-5)


def test_later_passes_count_as_much_as_they_are_said_to() -> None:
    """One part the mean of this pass's bits, a half that of all later pixels' as if next."""
    network, group = stirred_pixels(TINY_FIRST), 3
    tensor = torch.from_numpy(smooth_picture(8, 1)).permute(2, 0, 1)[None]
    batch = one_pass(
        TINY_FIRST, tensor, tensor.float(), torch.tensor([group]), torch.zeros(1), TEXT, later=0.5
    )
    order = pixel_maps(TINY_FIRST, 8, 8).order.flatten()[batch.targets[0]]
    with torch.no_grad():
        each = bits(network, batch)[0].mean(1)
        loss = PixelObjective().loss(network, batch, torch.Generator())
    wanted = (each[order == group].mean() + 0.5 * each[order > group].mean()) / 1.5
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    assert float(batch.weights.sum()) == pytest.approx(1.0)
    next_alone = batch_of(TINY_FIRST, smooth_picture(8, 1), group)
    assert float(each[order == group].mean()) == pytest.approx(
        float(PixelObjective().loss(network, next_alone, torch.Generator())), rel=1e-5
    )


def test_a_row_of_low_halves_is_that_of_the_high_half() -> None:
    """What training asks of the heads is what the exported graph answers, the true row of it."""
    network = stirred_pixels(TINY_SECOND)
    features = torch.randint(-255, 256, (2, 5, TINY_SECOND.features)).float()
    case = {
        name: torch.from_numpy(v) for name, v in head_case(TINY_SECOND, features.numpy()).items()
    }
    wanted = torch.arange(10).view(2, 5)
    high, low, copies = network.heads(**case)
    same_high, row, same_copies = network.heads(**case, wanted=wanted)
    assert torch.equal(high, same_high)
    assert torch.equal(copies, same_copies)
    rows = low.unflatten(-1, (NIBBLES, NIBBLES))
    for sample, place in product(range(2), range(5)):
        assert torch.equal(row[sample, place], rows[sample, place, wanted[sample, place]])
