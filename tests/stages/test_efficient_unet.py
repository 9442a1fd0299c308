"""The Efficient U-Net: shapes, what may and may not influence what, and how it starts."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stages.networks.efficient_unet import EfficientUNet, UNetConfig
from stages.networks.preconditioning import FADE, alpha_sigma, precondition
from stages.reference import PRESETS
from tests.support.tiny_training import stirred, tiny_unet, unet_inputs

CONFIGS = {
    "base": tiny_unet(attention="self"),
    "sr_self": tiny_unet(attention="self", upscales=True),
    "sr_cross": tiny_unet(attention="cross", upscales=True),
    "plain": tiny_unet(attention="none"),
    "one_level": tiny_unet(attention="self", levels=1),
    "three_levels": tiny_unet(attention="cross", levels=3),
    "patches": replace(tiny_unet(attention="self", upscales=True, levels=1), patch=2, gate=True),
}
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def close(one: Tensor, other: Tensor) -> None:
    """Equal up to the order of float32 sums."""
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@EACH
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (3, 7)])
def test_the_answer_has_the_pictures_shape(config: UNetConfig, rows: int, tokens: int) -> None:
    """One prediction per picture, finite, for any batch and any number of tokens."""
    out = stirred(config)(**unet_inputs(config, rows=rows, tokens=tokens))
    assert out.shape == (rows, 3, 16, 16)
    assert out.isfinite().all()
    assert out.std() > 0.01


@EACH
@pytest.mark.parametrize("size", [(8, 8), (32, 16), (24, 40)])
def test_other_sizes_work(config: UNetConfig, size: tuple[int, int]) -> None:
    """Height and width are free as long as every level can halve them."""
    assert stirred(config)(**unet_inputs(config, rows=1, size=size)).shape == (1, 3, *size)


@EACH
def test_padding_does_not_count(config: UNetConfig) -> None:
    """Tokens under mask 0 change nothing, whatever they hold."""
    network = stirred(config)
    inputs = unet_inputs(config, tokens=3)
    padded = dict(inputs)
    filler = 50 * torch.randn(3, 4, config.context_width, generator=torch.Generator())
    padded["context"] = torch.cat([inputs["context"], filler], dim=1)
    padded["context_mask"] = torch.cat([inputs["context_mask"], torch.zeros(3, 4)], dim=1)
    close(network(**padded), network(**inputs))


@EACH
def test_rows_are_independent(config: UNetConfig) -> None:
    """A batch of different times, texts and lengths answers as each of its rows alone."""
    network = stirred(config)
    inputs = unet_inputs(config)
    inputs["context_mask"][0, 2:] = 0
    inputs["context_mask"][1] = 0
    whole = network(**inputs)
    for row in range(3):
        alone = network(**{name: value[row : row + 1] for name, value in inputs.items()})
        close(whole[row : row + 1], alone)


@EACH
def test_without_a_mask_the_text_has_no_influence(config: UNetConfig) -> None:
    """All tokens masked out is the unconditional question: any text gives the same answer."""
    network = stirred(config)
    inputs = unet_inputs(config, tokens=4)
    inputs["context_mask"].zero_()
    other = {**inputs, "context": 9 * inputs["context"].flip(0) + 1}
    fewer = {**inputs, "context": inputs["context"][:, :1], "context_mask": torch.zeros(3, 1)}
    close(network(**other), network(**inputs))
    close(network(**fewer), network(**inputs))


@EACH
@pytest.mark.parametrize("name", ["x_t", "t", "context", "context_mask", "low_res", "aug_level"])
def test_every_input_has_an_influence(config: UNetConfig, name: str) -> None:
    """Changing any input that a network has changes its answer."""
    inputs = unet_inputs(config)
    if name not in inputs:
        return
    changed = {**inputs, name: inputs[name] * 0.5}
    if name == "context_mask":
        changed[name] = inputs[name].clone()
        changed[name][:, 1:] = 0
    if name == "context":
        # The text is normalised: a scale alone would be taken out again.
        changed[name] = inputs[name].flip(2)
    network = stirred(config)
    assert (network(**changed) - network(**inputs)).abs().max() > 1e-4


@EACH
def test_a_fresh_network_says_nothing(config: UNetConfig) -> None:
    """The last convolution starts at zero: of a fresh network only the straight path speaks."""
    torch.manual_seed(0)
    inputs = unet_inputs(config)
    out = EfficientUNet(config)(**inputs)
    if not config.upscales:
        assert not out.any()
        return
    path = precondition(config.schedule, config.residual_std, inputs["t"], inputs["aug_level"])
    clean = inputs["low_res"] * path.low_scale
    torch.testing.assert_close(out, path.from_x_t * inputs["x_t"] + path.from_low * clean)


def test_the_learnt_straight_path_adds_the_noisy_picture() -> None:
    """In the base stage, with all else silent, the answer is a multiple of `x_t`."""
    config = CONFIGS["base"]
    network = EfficientUNet(config)
    with torch.no_grad():
        network.straight.bias.fill_(-0.75)
    inputs = unet_inputs(config)
    torch.testing.assert_close(network(**inputs), -0.75 * inputs["x_t"])


@EACH
def test_a_stretch_multiplies_the_estimate(config: UNetConfig) -> None:
    """The estimate of the clean picture grows by the factor; at small noise the stretch fades."""
    inputs = unet_inputs(config)
    network = stirred(config)
    before = network(**inputs)
    network.config = replace(config, stretch=1.02)
    alpha, sigma = alpha_sigma(config.schedule, inputs["t"][:, None, None, None])
    wanted = alpha * inputs["x_t"] - sigma * before
    found = alpha * inputs["x_t"] - sigma * network(**inputs)
    faded = 0.02 * alpha * inputs["x_t"] * FADE**2 / (sigma**2 + FADE**2)
    torch.testing.assert_close(found, 1.02 * wanted - faded, rtol=0, atol=1e-5)


def test_long_skips_are_scaled() -> None:
    """The stem joins the output at 1/sqrt(2): there and nowhere else when the levels are silent."""
    config = replace(CONFIGS["one_level"], out_res_blocks=0)
    network = stirred(config)
    with torch.no_grad():
        network.up[0].up.weight.zero_()
        network.up[0].up.bias.zero_()
        network.straight.weight.zero_()
        network.straight.bias.zero_()
    inputs = unet_inputs(config)
    stem = network.stem(inputs["x_t"]) * math.sqrt(0.5)
    expected = network.conv_out(torch.nn.functional.silu(network.norm_out(stem)))
    torch.testing.assert_close(network(**inputs), expected)


def test_inner_skips_are_scaled() -> None:
    """What a DBlock hands across arrives at its UBlock times 1/sqrt(2)."""
    config = CONFIGS["base"]
    network = stirred(config)
    seen: dict[str, Tensor] = {}
    network.down[0].register_forward_hook(lambda _m, _i, out: seen.update(across=out))
    network.up[0].register_forward_pre_hook(lambda _m, args: seen.update(joined=args[0]))
    network(**unet_inputs(config))
    channels = seen["across"].shape[1]
    torch.testing.assert_close(seen["joined"][:, -channels:], seen["across"] * math.sqrt(0.5))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name: str) -> None:
    """Every stage of the reference cascade builds, at a size that a phone can hold."""
    with torch.device("meta"):
        network = EfficientUNet(PRESETS[name].unet)
    assert 1e5 < sum(p.numel() for p in network.parameters()) < 2e7
