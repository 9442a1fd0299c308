"""Maps that are joined: U-Nets, dense blocks, and concatenations along every axis."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.export.foreign_networks.network import FREE, MAP, Network, conv, net, weight

WIDE = ("batch", 16, "height", "width")


def joined(m: nn.Module, *maps: torch.Tensor) -> torch.Tensor:
    """Norm, activation and convolution of several maps as one."""
    return m.c(F.silu(m.g(torch.cat(maps, 1))))


def unet(up: str) -> dict[str, nn.Module]:
    """Layers of a U-Net of two levels."""
    wide = 32
    grow: nn.Module = nn.Upsample(scale_factor=2)
    if up == "transpose":
        grow = nn.ConvTranspose2d(wide, wide, 2, stride=2)
    if up == "shuffle":
        grow = nn.Sequential(conv(wide, wide * 4, 1), nn.PixelShuffle(2))
    return {
        "a": conv(8, 16),
        "down": conv(16, wide, stride=2),
        "mid": conv(wide, wide),
        "grow": grow,
        "g": nn.GroupNorm(4, 16 + wide),
        "c": conv(16 + wide, 8),
    }


def pass_unet(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Down, a residual, up, joined with the skip."""
    a = m.a(x)
    low = m.down(F.silu(a))
    return joined(m, m.grow(low + m.mid(F.silu(low))), a) + x


NETWORKS: list[Network] = [
    *(
        net(f"unet_{up}_{kind}", {"x": shape}, pass_unet, lambda up=up: unet(up))
        for up in ("nearest", "transpose", "shuffle")
        for kind, shape in (("free", FREE), ("fixed", MAP))
    ),
    net(
        "skip_interp",
        {"x": FREE},
        lambda m, x: joined(m, F.interpolate(m.down(x), scale_factor=2), x),
        lambda: {"down": conv(8, 16, stride=2), "g": nn.GroupNorm(4, 24), "c": conv(24, 8)},
    ),
    net(
        "skip_interp_size",
        {"x": FREE},
        lambda m, x: joined(m, F.interpolate(m.down(x), size=x.shape[2:]), x),
        lambda: {"down": conv(8, 16, stride=2), "g": nn.GroupNorm(4, 24), "c": conv(24, 8)},
    ),
    net(
        "skip_bilinear",
        {"x": FREE},
        lambda m, x: joined(m, F.interpolate(m.down(x), scale_factor=2, mode="bilinear"), x),
        lambda: {"down": conv(8, 16, stride=2), "g": nn.GroupNorm(4, 24), "c": conv(24, 8)},
    ),
    net(
        "free_unet_pool",
        {"x": FREE},
        lambda m, x: joined(m, F.interpolate(m.a(F.avg_pool2d(x, 2)), scale_factor=2), x),
        lambda: {"a": conv(8, 16), "g": nn.GroupNorm(4, 24), "c": conv(24, 8)},
    ),
    net(
        "unet_max_pool",
        {"x": FREE},
        lambda m, x: joined(m, m.up(F.relu(m.a(F.max_pool2d(x, 2)))), x),
        lambda: {
            "a": conv(8, 16),
            "up": nn.ConvTranspose2d(16, 16, 2, stride=2),
            "g": nn.GroupNorm(4, 24),
            "c": conv(24, 8),
        },
    ),
    net(
        "free_relu_dense",
        {"x": FREE},
        lambda m, x: joined(m, (y := torch.cat([x, F.relu(m.a(x))], 1)), F.relu(m.b(y))),
        lambda: {"a": conv(8, 8), "b": conv(16, 8), "g": nn.GroupNorm(4, 24), "c": conv(24, 8)},
    ),
    net(
        "free_gelu_dense",
        {"x": FREE},
        lambda m, x: joined(m, (y := torch.cat([x, F.gelu(m.a(x))], 1)), torch.tanh(m.b(y))),
        lambda: {"a": conv(8, 8), "b": conv(16, 8), "g": nn.GroupNorm(3, 24), "c": conv(24, 8)},
    ),
    net(
        "concat_height",
        {"x": MAP},
        lambda m, x: m.c(torch.cat([x, m.a(x)], 2)),
        lambda: {"a": conv(8, 8), "c": conv(8, 8)},
    ),
    net(
        "concat_height_normed",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.g(torch.cat([x, m.a(x)], 2)))),
        lambda: {"a": conv(8, 8), "g": nn.GroupNorm(4, 8), "c": conv(8, 8)},
    ),
    net(
        "concat_width_free",
        {"x": FREE},
        lambda m, x: m.c(F.silu(torch.cat([m.a(x), x], 3))),
        lambda: {"a": conv(8, 8), "c": conv(8, 8)},
    ),
    net(
        "concat_batch",
        {"x": MAP},
        lambda m, x: m.c(F.silu(torch.cat([x, m.a(x)], 0))).chunk(2, 0)[1] + x,
        lambda: {"a": conv(8, 8), "c": conv(8, 8)},
    ),
    net(
        "concat_three",
        {"x": FREE, "y": FREE},
        lambda m, x, y: joined(m, x, m.a(y), y),
        lambda: {"a": conv(8, 16), "g": nn.GroupNorm(4, 32), "c": conv(32, 8)},
    ),
    net(
        "concat_straddling_groups",
        {"x": FREE, "y": FREE},
        lambda m, x, y: joined(m, m.a(x), y),
        lambda: {"a": conv(8, 10), "g": nn.GroupNorm(3, 18), "c": conv(18, 8)},
    ),
    net(
        "concat_aligned_groups",
        {"x": WIDE},
        lambda m, x: joined(m, m.a(x), x) + m.skip(torch.cat([m.a(x), x], 1)),
        lambda: {
            "a": conv(16, 16),
            "g": nn.GroupNorm(8, 32),
            "c": conv(32, 16),
            "skip": conv(32, 16, 1),
        },
    ),
    *(
        net(
            f"concat_groups_{groups}",
            {"x": FREE},
            lambda m, x: m.c(torch.cat([x, F.silu(m.a(x))], 1)),
            lambda groups=groups: {"a": conv(8, 8), "c": conv(16, 16, groups=groups)},
        )
        for groups in (2, 4, 16)
    ),
    net(
        "concat_grouped_fixed",
        {"x": ("batch", 8, 64, 64)},
        lambda m, x: m.c(torch.cat([x, F.silu(m.a(x))], 1)),
        lambda: {"a": conv(8, 8), "c": conv(16, 8, groups=2)},
    ),
    net(
        "concat_grouped_transpose",
        {"x": FREE},
        lambda m, x: m.c(torch.cat([x, F.silu(m.a(x))], 1)),
        lambda: {"a": conv(8, 8), "c": nn.ConvTranspose2d(16, 8, 2, stride=2, groups=2)},
    ),
    net(
        "concat_transposed",
        {"x": FREE},
        lambda m, x: m.c(torch.cat([x, F.silu(m.a(x))], 1)),
        lambda: {"a": conv(8, 8), "c": nn.ConvTranspose2d(16, 8, 2, stride=2)},
    ),
    net(
        "gn_computed_concat",
        {"x": FREE},
        lambda m, x: m.c(F.group_norm(torch.cat([x, m.a(x)], 1), 4, torch.exp(m.gain), m.gain * 2)),
        lambda: {"a": conv(8, 8), "gain": weight(16), "c": conv(16, 8)},
    ),
    net(
        "concat_pad",
        {"x": FREE},
        lambda m, x: joined(m, F.pad(m.a(x), (1, 1, 1, 1))[:, :, 1:-1, 1:-1], x),
        lambda: {"a": conv(8, 8), "g": nn.GroupNorm(4, 16), "c": conv(16, 8)},
    ),
    net(
        "concat_shuffled",
        {"x": FREE},
        lambda m, x: joined(m, F.pixel_shuffle(m.a(x), 2), F.interpolate(x, scale_factor=2)),
        lambda: {"a": conv(8, 16), "g": nn.GroupNorm(4, 12), "c": conv(12, 8)},
    ),
    net(
        "concat_constant_map",
        {"x": MAP},
        lambda m, x: joined(m, x, m.place.expand(x.shape[0], -1, -1, -1)),
        lambda: {"place": weight(1, 4, 16, 16), "g": nn.GroupNorm(4, 12), "c": conv(12, 8)},
    ),
    net(
        "concat_itself",
        {"x": FREE},
        lambda m, x: joined(m, x, x, m.a(x)),
        lambda: {"a": conv(8, 8), "g": nn.GroupNorm(4, 24), "c": conv(24, 8)},
    ),
    net(
        "concat_mask_channel",
        {"x": FREE, "mask": ("batch", 1, "height", "width")},
        lambda m, x, mask: m.c(torch.cat([m.a(x) * mask, mask], 1)),
        lambda: {"a": conv(8, 8), "c": conv(9, 8)},
    ),
    net(
        "concat_strided_reader",
        {"x": FREE},
        lambda m, x: m.c(F.silu(torch.cat([x, F.relu(m.a(x))], 1))),
        lambda: {"a": conv(8, 8), "c": conv(16, 8, 3, stride=2)},
    ),
    net(
        "concat_dilated_reader",
        {"x": FREE},
        lambda m, x: m.c(torch.cat([x, m.a(x)], 1)) + x,
        lambda: {"a": conv(8, 8), "c": conv(16, 8, 3, dilation=2, padding=2)},
    ),
    net(
        "concat_is_output",
        {"x": FREE},
        lambda m, x: ((y := torch.cat([x, F.relu(m.a(x))], 1)), m.c(y)),
        lambda: {"a": conv(8, 8), "c": conv(16, 8)},
    ),
    net(
        "concat_from_the_end",
        {"x": FREE},
        lambda m, x: m.c(F.silu(m.g(torch.cat([F.relu(m.a(x)), x], -3)))),
        lambda: {"a": conv(8, 8), "g": nn.GroupNorm(4, 16), "c": conv(16, 8)},
    ),
    net(
        "concat_layer_norm",
        {"x": FREE},
        lambda m, x: m.c(m.ln(torch.cat([x, m.a(x)], 1).movedim(1, 3)).movedim(3, 1)),
        lambda: {"a": conv(8, 8), "ln": nn.LayerNorm(16), "c": conv(16, 8)},
    ),
    net(
        "concat_instance_norm",
        {"x": FREE},
        lambda m, x: m.c(m.norm(torch.cat([x, m.a(x)], 1))),
        lambda: {"a": conv(8, 8), "norm": nn.InstanceNorm2d(16, affine=True), "c": conv(16, 8)},
    ),
    net(
        "concat_batch_norm",
        {"x": FREE},
        lambda m, x: m.c(m.norm(torch.cat([F.relu(x), m.a(x)], 1))),
        lambda: {"a": conv(8, 8), "norm": nn.BatchNorm2d(16), "c": conv(16, 8)},
    ),
    net(
        "skip_of_two_sizes",
        {"x": MAP},
        lambda m, x: joined(m, F.interpolate(m.b(F.silu(m.a(x))), size=(16, 16)), x),
        lambda: {
            "a": conv(8, 8, stride=2),
            "b": conv(8, 8, stride=2),
            "g": nn.GroupNorm(4, 16),
            "c": conv(16, 8),
        },
    ),
]
