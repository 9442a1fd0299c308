"""Norms and what scales and shifts them: styles of one row, computed gains, norms of one group."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.export.foreign_networks.network import (
    FREE,
    MAP,
    VECTOR,
    Network,
    Shape,
    conv,
    net,
    weight,
)

BIG: Shape = ("batch", 64, 32, 32)
STYLE: Shape = (1, 6)


def film(
    *, groups: int = 4, wide: int = 8, affine: bool = True, both: int = 2
) -> dict[str, nn.Module]:
    """A norm, a linear for its scale and shift, a convolution after it."""
    return {
        "g": nn.GroupNorm(groups, wide, affine=affine),
        "f": nn.Linear(6, both * wide),
        "c": conv(wide, wide),
    }


def spread(values: torch.Tensor) -> torch.Tensor:
    """`[B, C]` to broadcast over a map."""
    return values[:, :, None, None]


def modulated(m: nn.Module, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """A CombineEmbs: scale and shift from one linear."""
    scale, shift = spread(m.f(s)).chunk(2, 1)
    return m.c(F.silu(m.g(x) * (1 + scale) + shift))


NETWORKS: list[Network] = [
    net("film_free", {"x": FREE, "s": VECTOR}, modulated, film),
    net("film_fixed_small", {"x": MAP, "s": VECTOR}, modulated, film),
    net("film_fixed_big", {"x": BIG, "s": VECTOR}, modulated, lambda: film(wide=64)),
    net("film_of_one_row", {"x": FREE, "s": STYLE}, modulated, film),
    net("film_of_one_row_big", {"x": BIG, "s": STYLE}, modulated, lambda: film(wide=64)),
    net("film_one_group", {"x": FREE, "s": VECTOR}, modulated, lambda: film(groups=1)),
    net("film_no_affine", {"x": FREE, "s": VECTOR}, modulated, lambda: film(affine=False)),
    net(
        "film_plain_scale",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(m.g(x) * (y := spread(m.f(s))) + y),
        lambda: film(both=1),
    ),
    net(
        "adain_style1",
        {"x": FREE, "s": STYLE},
        lambda m, x, s: m.c(m.g(x) * (y := spread(m.f(s))) + y),
        lambda: film(both=1, affine=False),
    ),
    net(
        "affine_input_style1",
        {"x": FREE, "scale": (1, 8, 1, 1), "shift": (1, 8, 1, 1)},
        lambda m, x, scale, shift: m.c(m.g(x) * scale + shift),
        film,
    ),
    net(
        "affine_inputs",
        {"x": FREE, "scale": ("batch", 8, 1, 1), "shift": ("batch", 8, 1, 1)},
        lambda m, x, scale, shift: m.c(m.g(x) * scale + shift),
        film,
    ),
    net(
        "affine_batch_mean",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(m.g(x) * (y := spread(m.f(s.mean(0, keepdim=True)))) + y),
        lambda: film(both=1, affine=False),
        mixes_rows=True,
    ),
    net(
        "const_generator",
        {"s": VECTOR},
        lambda m, s: modulated(m, m.start, s),
        lambda: {**film(wide=64), "start": weight(1, 64, 32, 32)},
    ),
    net(
        "const_gen_mulmap",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(m.g(x[:1]) * (y := spread(m.f(s))) + y),
        lambda: film(both=1, affine=False),
        mixes_rows=True,
    ),
    net(
        "affine_x1_style_b",
        {"x": (1, 8, "height", "width"), "s": VECTOR},
        modulated,
        film,
    ),
    net(
        "two_norms_one_style",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: modulated(m, modulated(m, x, s), s),
        film,
    ),
    net(
        "two_styles",
        {"x": FREE, "s": VECTOR, "t": STYLE},
        lambda m, x, s, t: modulated(m, modulated(m, x, s), t),
        film,
    ),
    net(
        "film_scale_only",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(F.silu(m.g(x) * (1 + spread(m.f(s))))),
        lambda: film(both=1),
    ),
    net(
        "film_shift_first",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(F.silu(m.g(x) * (1 + (y := spread(m.f(s)).chunk(2, 1))[1]) + y[0])),
        film,
    ),
    net(
        "film_maps",
        {"x": FREE, "s": FREE},
        lambda m, x, s: m.c(F.silu(m.g(x) * (1 + (y := m.a(s).chunk(2, 1))[0]) + y[1])),
        lambda: {**film(), "a": conv(8, 16, 1)},
    ),
    net(
        "film_conv_style",
        {"x": FREE, "s": ("batch", 6, 1, 1)},
        lambda m, x, s: m.c(F.silu(m.g(x) * (1 + (y := m.a(s).chunk(2, 1))[0]) + y[1])),
        lambda: {**film(affine=False), "a": conv(6, 16, 1)},
    ),
    net(
        "film_norm_is_output",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: ((n := m.g(x)), m.c(n * (1 + (y := spread(m.f(s)).chunk(2, 1))[0]) + y[1])),
        film,
    ),
    net(
        "film_tokens",
        {"x": ("batch", 8, 20), "s": VECTOR},
        lambda m, x, s: m.l(m.g(x) * (1 + (y := m.f(s)[:, :, None].chunk(2, 1))[0]) + y[1]),
        lambda: {**film(), "l": nn.Linear(20, 20)},
    ),
    net(
        "film_volumes",
        {"x": ("batch", 8, 4, 8, 8), "s": VECTOR},
        lambda m, x, s: m.g(x) * (1 + (y := m.f(s)[:, :, None, None, None].chunk(2, 1))[0]) + y[1],
        film,
    ),
    net(
        "gn_affine_false",
        {"x": FREE},
        lambda m, x: m.c(m.g(m.a(x))),
        lambda: {**film(affine=False), "a": conv(8, 8)},
    ),
    net(
        "gn_mul_add_maps",
        {"x": FREE, "y": FREE},
        lambda m, x, y: m.c(m.g(x) * m.a(y) + y),
        lambda: {**film(affine=False), "a": conv(8, 8)},
    ),
    net(
        "gn_computed_weights",
        {"x": FREE},
        lambda m, x: m.c(F.group_norm(x, 4, torch.exp(m.gain), m.gain * 2)),
        lambda: {"gain": weight(8), "c": conv(8, 8)},
    ),
    *(
        net(
            f"gn_of_{groups}_groups",
            {"x": FREE},
            lambda m, x: m.c(F.silu(m.g(m.a(x)))) + x,
            lambda groups=groups: {
                "a": conv(8, 24),
                "g": nn.GroupNorm(groups, 24),
                "c": conv(24, 8),
            },
        )
        for groups in (1, 3, 24)
    ),
    net("gn_fixed_big", {"x": BIG}, lambda m, x: m.c(F.silu(m.g(x))), lambda: film(wide=64)),
    net(
        "gn_tokens",
        {"x": ("batch", 8, 20)},
        lambda m, x: m.l(m.g(x)) + x,
        lambda: {**film(), "l": nn.Linear(20, 20)},
    ),
    net(
        "gn_vectors",
        {"x": ("batch", 16)},
        lambda m, x: m.l(m.g(x)) + x,
        lambda: {"g": nn.GroupNorm(4, 16), "l": nn.Linear(16, 16)},
    ),
    net("gn_twice", {"x": FREE}, lambda m, x: m.c(m.g(F.relu(m.g(x)))) + m.g(x), film),
    net(
        "gn_large_epsilon",
        {"x": FREE},
        lambda m, x: m.c(m.g(x)),
        lambda: {"g": nn.GroupNorm(2, 8, eps=0.1), "c": conv(8, 8)},
    ),
    net(
        "instance_norm_styles",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(F.silu(m.n(x) * (1 + (y := spread(m.f(s)).chunk(2, 1))[0]) + y[1])),
        lambda: {**film(), "n": nn.InstanceNorm2d(8)},
    ),
    net(
        "layer_norm_map",
        {"x": MAP},
        lambda m, x: m.c(m.n(x)) + x,
        lambda: {"n": nn.LayerNorm([8, 16, 16]), "c": conv(8, 8)},
    ),
    net(
        "layer_norm_channels",
        {"x": FREE, "s": VECTOR},
        lambda m, x, s: m.c(
            (m.n(x.movedim(1, -1)) * (1 + m.f(s)[:, None, None, :8])).movedim(-1, 1)
        ),
        lambda: {**film(), "n": nn.LayerNorm(8)},
    ),
    net(
        "rms_norm_map",
        {"x": FREE},
        lambda m, x: m.c(F.normalize(x, dim=1) * m.gain * 8**0.5) + x,
        lambda: {"gain": weight(8, 1, 1), "c": conv(8, 8)},
    ),
    net(
        "style_demodulation",
        {"x": MAP, "s": VECTOR},
        lambda m, x, s: (
            m.c(x * (y := spread(m.f(s)))) * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-4)
        ),
        lambda: film(both=1),
    ),
    net(
        "statistics_of_another",
        {"x": FREE, "y": FREE},
        lambda m, x, y: m.c(m.g(x) * y.std((2, 3), keepdim=True) + y.mean((2, 3), keepdim=True)),
        lambda: film(affine=False),
    ),
]
