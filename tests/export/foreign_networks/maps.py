"""Feature maps under gates, odd sizes, strides, pools, pads, and every usual kind of block."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.export.foreign_networks.network import FREE, MAP, Network, Shape, conv, net, weight

ODD: Shape = ("batch", 8, 33, 33)
MASK: Shape = ("batch", 1, "height", "width")


def two() -> dict[str, nn.Module]:
    """Two convolutions with a norm between."""
    return {"a": conv(8, 8), "g": nn.GroupNorm(4, 8), "c": conv(8, 8)}


NETWORKS: list[Network] = [
    net(
        "mask_relu_cat",
        {"x": FREE, "mask": MASK},
        lambda m, x, mask: m.c(F.silu(m.g(torch.cat([F.relu(m.a(x)) * mask, x], 1)))),
        lambda: {"a": conv(8, 8), "g": nn.GroupNorm(4, 16), "c": conv(16, 8)},
    ),
    net(
        "mask_relu_chain",
        {"x": FREE, "mask": MASK},
        lambda m, x, mask: m.c(F.silu(m.g(F.relu(m.a(x)) * mask))),
        two,
    ),
    net(
        "gate_known_concat",
        {"x": FREE, "gate": ("batch", 8, 1, 1)},
        lambda m, x, gate: m.c(F.silu(m.g(gate * F.relu(m.a(x))))) + x,
        two,
    ),
    net(
        "mask_of_rows",
        {"x": FREE, "mask": ("batch", 1, "height", 1)},
        lambda m, x, mask: m.c(F.silu(m.g(F.gelu(m.a(x)) + mask))),
        two,
    ),
    net(
        "squeeze_excite",
        {"x": FREE},
        lambda m, x: (
            x
            + m.c((y := m.a(x)) * torch.sigmoid(m.up(F.relu(m.down(y.mean((2, 3), keepdim=True))))))
        ),
        lambda: {**two(), "down": conv(8, 4, 1), "up": conv(4, 8, 1)},
    ),
    net(
        "squeeze_excite_linear",
        {"x": MAP},
        lambda m, x: m.c((y := m.a(x)) * torch.sigmoid(m.f(y.mean((2, 3))))[:, :, None, None]),
        lambda: {**two(), "f": nn.Linear(8, 8)},
    ),
    net(
        "spatial_gate",
        {"x": FREE},
        lambda m, x: m.c(
            x * torch.sigmoid(m.s(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))
        ),
        lambda: {"s": conv(2, 1, 7), "c": conv(8, 8)},
    ),
    net(
        "odd33",
        {"x": ODD},
        lambda m, x: x + m.up(F.silu(m.down(x))),
        lambda: {
            "down": conv(8, 8, stride=2),
            "up": nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1),
        },
    ),
    net(
        "odd_no_pad",
        {"x": ODD},
        lambda m, x: m.b(F.silu(m.a(x))) + m.b(F.silu(m.a(x))).mean((2, 3), keepdim=True),
        lambda: {"a": conv(8, 8, stride=2, padding=0), "b": conv(8, 8, 2, stride=2, padding=0)},
    ),
    net(
        "odd_halves",
        {"x": ("batch", 8, 28, 28)},
        lambda m, x: (y := m.c(F.silu(m.b(F.silu(m.a(x)))))) + F.silu(y),
        lambda: {n: conv(8, 8, stride=2) for n in "abc"},
    ),
    net(
        "odd_rectangle",
        {"x": ("batch", 8, 15, 22)},
        lambda m, x: F.interpolate(m.a(x), size=(15, 22)) + m.c(x),
        lambda: {"a": conv(8, 8, stride=(2, 3)), "c": conv(8, 8)},
    ),
    net(
        "transpose_output_padding",
        {"x": FREE},
        lambda m, x: F.silu(m.c(m.up(x))) + m.up(x),
        lambda: {
            "up": nn.ConvTranspose2d(8, 8, 2, stride=2, output_padding=1),
            "c": conv(8, 8),
        },
    ),
    net(
        "transpose_k3_outpad",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.up(m.down(x)))) + x,
        lambda: {
            "down": conv(8, 8, stride=2),
            "up": nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1),
            "c": conv(8, 8),
        },
    ),
    net(
        "transpose_k4",
        {"x": FREE},
        lambda m, x: m.c(F.relu(m.up(m.down(x)))) + x,
        lambda: {
            "down": conv(8, 8, 4, stride=2, padding=1),
            "up": nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1),
            "c": conv(8, 8),
        },
    ),
    net(
        "shared_transpose_weight",
        {"x": FREE},
        lambda m, x: F.conv_transpose2d(m.c(x), m.c.weight, padding=1),
        lambda: {"c": conv(8, 8)},
    ),
    net(
        "shared_strided_weight",
        {"x": FREE},
        lambda m, x: x - F.conv_transpose2d(m.c(x), m.c.weight, stride=2),
        lambda: {"c": conv(8, 16, 2, stride=2, padding=0)},
    ),
    net(
        "conv_shared_twice",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.c(F.silu(m.g(m.c(x)))))),
        two,
    ),
    net(
        "convnext_block",
        {"x": FREE},
        lambda m, x: (
            x
            + m.gamma[:, None, None]
            * m.out(F.gelu(m.inner(m.ln(m.dw(x).permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)
        ),
        lambda: {
            "dw": conv(8, 8, 7, groups=8),
            "ln": nn.LayerNorm(8),
            "inner": nn.Linear(8, 32),
            "out": nn.Linear(32, 8),
            "gamma": weight(8),
        },
    ),
    net(
        "gated_convolution",
        {"x": FREE},
        lambda m, x: x + m.c((y := m.a(x).chunk(2, 1))[0] * torch.sigmoid(y[1])),
        lambda: {"a": conv(8, 16), "c": conv(8, 8)},
    ),
    net(
        "dilated_pyramid",
        {"x": FREE},
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x), m.d(x)], 1)) + x,
        lambda: {
            "a": conv(8, 4),
            "b": conv(8, 4, dilation=2, padding=2),
            "d": conv(8, 4, dilation=4, padding=4),
            "c": conv(12, 8, 1),
        },
    ),
    net(
        "separable",
        {"x": FREE},
        lambda m, x: m.c(F.relu6(m.dw(F.relu6(m.a(x))))) + x,
        lambda: {"a": conv(8, 24, 1), "dw": conv(24, 24, groups=24), "c": conv(24, 8, 1)},
    ),
    net(
        "channel_shuffle",
        {"x": FREE},
        lambda m, x: m.c(F.channel_shuffle(m.a(x), 4)) + x,
        lambda: {"a": conv(8, 16, groups=4), "c": conv(16, 8, groups=4)},
    ),
    net(
        "asymmetric_padding",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.a(F.pad(x, (0, 1, 0, 1))))),
        lambda: {"a": conv(8, 8, stride=2, padding=0), "c": conv(8, 8)},
    ),
    net(
        "rectangular_strides",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.g(m.a(x)))),
        lambda: {
            "a": nn.Conv2d(8, 8, (3, 5), stride=(1, 2), padding=(1, 2)),
            "g": nn.GroupNorm(2, 8),
            "c": conv(8, 8),
        },
    ),
    net(
        "reflected_padding",
        {"x": FREE},
        lambda m, x: m.c(F.relu(m.g(m.a(x)))) + x,
        lambda: {
            "a": conv(8, 8, padding_mode="reflect"),
            "g": nn.GroupNorm(4, 8),
            "c": conv(8, 8, padding_mode="replicate"),
        },
    ),
    net(
        "circular_padding",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.g(m.a(x)))) + x,
        lambda: {**two(), "a": conv(8, 8, padding_mode="circular")},
    ),
    *(
        net(
            f"pixel_shuffle_{factor}",
            {"x": FREE},
            lambda m, x, factor=factor: m.c(F.silu(F.pixel_shuffle(m.a(x), factor))),
            lambda factor=factor: {"a": conv(8, 8 * factor**2), "c": conv(8, 8)},
        )
        for factor in (2, 3)
    ),
    net(
        "pixel_unshuffle",
        {"x": FREE},
        lambda m, x: F.pixel_shuffle(m.c(F.silu(m.a(F.pixel_unshuffle(x, 4)))), 4),
        lambda: {"a": conv(128, 16), "c": conv(16, 128)},
    ),
    net(
        "shuffle_without_conv",
        {"x": FREE},
        lambda m, x: m.c(F.pixel_shuffle(x, 2)) + F.pixel_shuffle(m.a(x), 2)[:, :1],
        lambda: {"a": conv(8, 8), "c": conv(2, 4)},
    ),
    net(
        "upsample_conv",
        {"x": FREE},
        lambda m, x: m.c(F.interpolate(m.a(x), scale_factor=2)),
        two,
    ),
    net(
        "upsample_bicubic",
        {"x": FREE},
        lambda m, x: m.c(F.interpolate(m.a(x), scale_factor=2, mode="bicubic")),
        two,
    ),
    net(
        "upsample_corners",
        {"x": MAP},
        lambda m, x: m.c(F.interpolate(m.a(x), size=(20, 24), mode="bilinear", align_corners=True)),
        two,
    ),
    net(
        "adaptive_pools",
        {"x": MAP},
        lambda m, x: m.c(F.adaptive_avg_pool2d(m.a(x), 4)) + F.adaptive_max_pool2d(x, 4),
        two,
    ),
    net(
        "pool_with_stride",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.g(F.avg_pool2d(m.a(x), 3, stride=2, padding=1)))),
        two,
    ),
    net(
        "max_pool_places",
        {"x": FREE},
        lambda m, x: m.c(F.max_pool2d(F.max_pool2d(m.a(x), 3, stride=1, padding=1), 2)),
        two,
    ),
    net(
        "dropout",
        {"x": FREE},
        lambda m, x: m.c(m.d(F.silu(m.g(m.a(x))))),
        lambda: {**two(), "d": nn.Dropout2d(0.5)},
    ),
    net(
        "in_place",
        {"x": FREE},
        lambda m, x: m.c(F.relu_(m.a(x)).add_(x).mul_(0.5)),
        two,
    ),
    net(
        "batch_norms",
        {"x": FREE},
        lambda m, x: F.relu(m.n2(m.c(F.relu(m.n1(m.a(x)))))) + x,
        lambda: {**two(), "n1": nn.BatchNorm2d(8), "n2": nn.BatchNorm2d(8)},
    ),
    *(
        net(
            f"activation_{kind.__name__.lower()}",
            {"x": FREE},
            lambda m, x: x + m.c(m.f(m.g(m.a(x)))),
            lambda kind=kind: {**two(), "f": kind()},
        )
        for kind in (nn.Hardswish, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Softplus, nn.Mish, nn.GELU)
    ),
    net(
        "silu_scaled",
        {"x": FREE},
        lambda m, x: m.c((y := m.g(m.a(x))) * torch.sigmoid(1.702 * y)),
        two,
    ),
    net(
        "sigmoid_of_another",
        {"x": FREE},
        lambda m, x: m.c(m.a(x) * torch.sigmoid(m.g(x))),
        two,
    ),
    net(
        "standardised_weights",
        {"x": FREE},
        lambda m, x: F.silu(
            m.g(
                F.conv2d(
                    x,
                    (w := m.w - m.w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True),
                    padding=1,
                )
            )
        ),
        lambda: {"w": weight(8, 8, 3, 3), "g": nn.GroupNorm(4, 8)},
    ),
    net(
        "coordinates",
        {"x": MAP},
        lambda m, x: m.c(F.silu(m.g(m.a(x) + m.place))) + m.place[:, :1],
        lambda: {**two(), "place": torch.linspace(-1, 1, 16).expand(1, 8, 16, 16).clone()},
    ),
    net(
        "blur_buffer",
        {"x": FREE},
        lambda m, x: m.c(F.conv2d(F.silu(m.a(x)), m.blur, padding=1, stride=2, groups=8)),
        lambda: {**two(), "blur": torch.ones(8, 1, 3, 3) / 9},
    ),
    net(
        "conv1d_stack",
        {"x": ("batch", 8, 40)},
        lambda m, x: m.c(F.silu(m.g(m.a(x)))) + x,
        lambda: {
            "a": nn.Conv1d(8, 16, 3, padding=1),
            "g": nn.GroupNorm(4, 16),
            "c": nn.Conv1d(16, 8, 5, padding=2),
        },
    ),
    net(
        "conv3d_stack",
        {"x": ("batch", 4, 4, 8, 8)},
        lambda m, x: m.c(F.silu(m.g(m.a(x)))) + x,
        lambda: {
            "a": nn.Conv3d(4, 8, 3, padding=1),
            "g": nn.GroupNorm(4, 8),
            "c": nn.Conv3d(8, 4, 3, padding=1),
        },
    ),
    net(
        "sums_of_constants",
        {"x": MAP},
        lambda m, x: m.c(F.silu(m.a(x) + m.bias)) * m.place + x,
        lambda: {**two(), "bias": weight(1, 8, 1, 1), "place": weight(1, 1, 16, 16)},
    ),
    net(
        "rows_and_columns",
        {"x": MAP},
        lambda m, x: m.c(m.a(x).mean(3, keepdim=True) + m.a(x).mean(2, keepdim=True)) + x,
        two,
    ),
    net(
        "flips_and_rolls",
        {"x": MAP},
        lambda m, x: m.c(F.silu(m.a(x.flip(3)))) + torch.roll(m.a(x), 3, 2),
        two,
    ),
    net(
        "cropped_skip",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.b(x))) + x[:, :, 2:-2, 2:-2],
        lambda: {"b": conv(8, 8, padding=0), "c": conv(8, 8, padding=0)},
    ),
    net(
        "clamped",
        {"x": FREE},
        lambda m, x: m.c(torch.where(x > 0, m.a(x).clamp(-1, 1), x)),
        two,
    ),
]
