"""The blocks of the U-Net: shapes, what each may look at, and how each starts."""

import math

import pytest
import torch
from torch import Tensor, nn

from stages.networks.blocks import (
    GROUP_CHANNELS,
    Attention,
    CombineEmbs,
    Conditions,
    DBlock,
    FourierTime,
    ResNetBlock,
    UBlock,
    group_norm,
    zero_init,
)

TEXT, VECTOR = 6, 10


def conditions(rows: int = 2, tokens: int = 4, seed: int = 0) -> Conditions:
    """A random vector, random tokens behind a null token, none masked."""
    generator = torch.Generator().manual_seed(seed)
    return Conditions(
        torch.randn(rows, VECTOR, generator=generator),
        torch.randn(rows, 1 + tokens, TEXT, generator=generator),
        torch.zeros(rows, 1, 1, 1 + tokens),
    )


def features(channels: int, rows: int = 2, height: int = 6, width: int = 8) -> Tensor:
    """A random feature map."""
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(rows, channels, height, width, generator=generator)


def stir(block: nn.Module) -> nn.Module:
    """The block with no parameter left at its start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block


@pytest.mark.parametrize("channels", [8, 16, 24])
def test_groups_have_eight_channels(channels: int) -> None:
    """Every group of eight channels gets mean 0 and variance 1."""
    h = group_norm(channels)(features(channels) * 3 + 5)
    groups = h.reshape(2, channels // GROUP_CHANNELS, -1)
    torch.testing.assert_close(groups.mean(2), torch.zeros(2, channels // 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.var(2), torch.ones(2, channels // 8), atol=2e-2, rtol=0)


def test_silence_is_zero() -> None:
    """A silenced layer answers 0."""
    layer = nn.Conv2d(4, 4, 3)
    zero_init(layer)
    assert not layer(torch.ones(1, 4, 5, 5)).any()


def test_combine_starts_as_identity_and_scales_and_shifts() -> None:
    """At first the map passes; then each channel gets one scale and one shift per sample."""
    combine = CombineEmbs(8, VECTOR)
    h, c = features(8), conditions()
    torch.testing.assert_close(combine(h, c), h, rtol=0, atol=0)
    stir(combine)
    scale, shift = combine.project(c.vector)[:, :, None, None].chunk(2, dim=1)
    torch.testing.assert_close(combine(h, c), h * (1 + scale) + shift)


def test_residual_block_starts_as_its_skip() -> None:
    """A fresh residual block is its 1x1 convolution alone."""
    block = ResNetBlock(8, 16, VECTOR)
    h = features(8)
    out = block(h, conditions())
    assert out.shape == (2, 16, 6, 8)
    torch.testing.assert_close(out, block.skip(h))


def test_residual_block_looks_at_the_vector() -> None:
    """A stirred residual block changes with the conditioning vector."""
    block = stir(ResNetBlock(8, 8, VECTOR))
    difference = block(features(8), conditions(seed=0)) - block(features(8), conditions(seed=1))
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("over_image", [True, False])
def test_attention_starts_as_identity(over_image: bool) -> None:  # noqa: FBT001
    """Fresh attention passes its input on."""
    h = features(16)
    attention = Attention(16, TEXT, 2, over_image=over_image)
    torch.testing.assert_close(attention(h, conditions()), h, rtol=0, atol=0)


def by_hand(attention: Attention, h: Tensor, c: Conditions) -> Tensor:
    """Attention as the formula says, one sample and one head at a time."""
    rows, channels, height, width = h.shape
    each = channels // attention.heads
    out = torch.empty_like(h)
    tokens = attention.norm(h).flatten(2).transpose(1, 2)
    for row in range(rows):
        query = attention.query(tokens[row])
        key, value = attention.text_kv(c.text[row]).chunk(2, dim=-1)
        bias = c.bias[row, 0, 0]
        if attention.image_kv is not None:
            image_key, image_value = attention.image_kv(tokens[row]).chunk(2, dim=-1)
            key, value = torch.cat([key, image_key]), torch.cat([value, image_value])
            bias = torch.cat([bias, torch.zeros(height * width)])
        heads = []
        for head in range(attention.heads):
            part = slice(head * each, (head + 1) * each)
            logits = query[:, part] @ key[:, part].T / math.sqrt(each) + bias
            heads.append(logits.softmax(dim=-1) @ value[:, part])
        mixed = attention.out(torch.cat(heads, dim=1))
        out[row] = h[row] + mixed.T.reshape(channels, height, width)
    return out


@pytest.mark.parametrize("over_image", [True, False])
def test_attention_by_hand(over_image: bool) -> None:  # noqa: FBT001
    """Text and, over the image, all pixels are keys; masked tokens are not."""
    attention = stir(Attention(16, TEXT, 2, over_image=over_image))
    assert isinstance(attention, Attention)
    c = conditions()
    c.bias[1, 0, 0, 2:] = -1e4
    h = features(16)
    torch.testing.assert_close(attention(h, c), by_hand(attention, h, c), atol=1e-5, rtol=1e-5)


def test_cross_attention_is_per_pixel() -> None:
    """Without the image among the keys, moving pixels moves the answers along."""
    attention = stir(Attention(16, TEXT, 2, over_image=False))
    h, c = features(16), conditions()
    moved = attention(h.roll((1, 3), dims=(2, 3)), c)
    torch.testing.assert_close(moved, attention(h, c).roll((1, 3), dims=(2, 3)))


@pytest.mark.parametrize("attention", [True, False])
def test_down_and_up_change_the_resolution(attention: bool) -> None:  # noqa: FBT001
    """A DBlock halves height and width first, an UBlock doubles them last."""
    down = DBlock(8, 16, VECTOR, res_blocks=2)
    up = UBlock(16, 24, 8, VECTOR, 2)
    if attention:
        down.attention = Attention(16, TEXT, 2, over_image=True)
        up.attention = Attention(24, TEXT, 3, over_image=False)
    c = conditions()
    h = down(features(8), c)
    assert h.shape == (2, 16, 3, 4)
    assert up(h, c).shape == (2, 8, 6, 8)


def test_strided_convolution_comes_first_and_upsampling_last() -> None:
    """A fresh DBlock is its skips after `down`; a fresh UBlock is `up` after its skips."""
    c = conditions()
    down, up = DBlock(8, 16, VECTOR, res_blocks=1), UBlock(16, 24, 8, VECTOR, 1)
    h = features(8)
    torch.testing.assert_close(down(h, c), down.res[0].skip(down.down(h)))
    h = features(16)
    torch.testing.assert_close(up(h, c), up.up(up.res[0].skip(h)))


def test_times_by_hand() -> None:
    """Sines then cosines of 1000 t at rates from 1 down to 1e-4 or so."""
    t = torch.tensor([0.0, 0.25, 1.0])
    features_ = FourierTime(8)(t)
    assert features_.shape == (3, 8)
    assert features_[0].tolist() == [0.0] * 4 + [1.0] * 4
    rates = [1000 * 10_000 ** (-k / 4) for k in range(4)]
    expected = [math.sin(0.25 * r) for r in rates] + [math.cos(0.25 * r) for r in rates]
    torch.testing.assert_close(features_[1], torch.tensor(expected), atol=1e-4, rtol=0)


def test_times_are_not_saved() -> None:
    """The rates are a formula, not a weight: checkpoints do not carry them."""
    assert FourierTime(8).state_dict() == {}
